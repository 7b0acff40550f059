"""Evaluations of a process reward model: against true step ratings, on ProcessBench, on PRMBench."""

import re
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from stepjax.data.schema import LabelledSolution
from stepjax.errors import UserError
from stepjax.evaluation.records import is_tuning, read_records
from stepjax.evaluation.responses import write_responses
from stepjax.evaluation.results import publish
from stepjax.evaluation.scorer import make_scorer, p_right
from stepjax.measures.prmbench import CORRECT, prmbench_report
from stepjax.measures.step_scores import ScoredSolution, first_error_report, step_score_report
from stepjax.runs.response_sampling import sample_problems
from stepjax.runs.responses import Response
from stepjax.runs.setup import Run


def measure_prm(run: Run) -> dict[str, Any]:
    """AUC, calibration, classes and first errors on `eval.data`, or on responses that the task rates exactly."""
    start, options = time.perf_counter(), run.config.eval
    notes: list[str] = []
    solutions = score_records(run, notes) if options.data else score_responses(run, notes)
    found: dict[str, Any] = {
        "data": options.data or f"responses of stage {options.stage} to {options.split} problems",
        **step_score_report(solutions, threshold=options.threshold, bins=options.bins),
        "notes": notes,
    }
    return publish(run, "prm", found, since=start)


def measure_processbench(run: Run) -> dict[str, Any]:
    """ProcessBench's figures on `eval.data`, in total and by subset (the records' `source`)."""
    start, options, notes = time.perf_counter(), run.config.eval, list[str]()
    records, solutions = _scored(run, notes)
    places = [record.error_at() for record in records]
    if not any(place is not None for place in places):
        raise UserError(f"config.eval.data={options.data}: no solution in it states where its first error is")
    subsets: dict[str, list[ScoredSolution]] = {}
    for record, solution in zip(records, solutions, strict=True):
        if solution.first_error is not None:
            subsets.setdefault(subset_of(record), []).append(solution)
    everything = [s for of_subset in subsets.values() for s in of_subset]
    found: dict[str, Any] = {
        "data": options.data,
        "all": first_error_report(everything, threshold=options.threshold),
        "subsets": {name: first_error_report(of, threshold=options.threshold) for name, of in sorted(subsets.items())},
        "notes": notes,
    }
    # The benchmark's own average: over subsets, each weighing the same.
    of_subsets = [of["fixed"]["f1"] for of in found["subsets"].values()]
    found["mean_f1"] = float(np.mean(of_subsets))
    return publish(run, "processbench", found, since=start)


def measure_prmbench(run: Run) -> dict[str, Any]:
    """PRMBench's figures on `eval.data`, by error kind."""
    start, options, notes = time.perf_counter(), run.config.eval, list[str]()
    records, solutions = _scored(run, notes)
    labelled = [i for i, record in enumerate(records) if all(rating is not None for rating in record.ratings)]
    if not labelled:
        raise UserError(f"config.eval.data={options.data}: no solution in it has a label on each of its steps")
    errors = [[rating != 1 for rating in records[i].ratings] for i in labelled]
    kinds = [subset_of(records[i]) if any(wrong) else CORRECT for i, wrong in zip(labelled, errors, strict=True)]
    scores = [solutions[i].right for i in labelled]
    found = {
        "data": options.data,
        **prmbench_report(scores, errors, kinds, threshold=options.threshold),
        "notes": notes,
    }
    return publish(run, "prmbench", found, since=start)


def subset_of(record: LabelledSolution) -> str:
    """The benchmark's part that a record belongs to."""
    if isinstance(value := record.extra.get("classification"), str) and value:
        return value
    named = re.fullmatch(r"([A-Za-z][\w.]*)-\d+", record.id)  # ProcessBench's: gsm8k-17, omnimath-3
    return named[1] if named else record.source or "all"


def score_records(run: Run, notes: list[str]) -> list[ScoredSolution]:
    """The records of `eval.data` with the model's scores."""
    return _scored(run, notes)[1]


def _scored(run: Run, notes: list[str]) -> tuple[list[LabelledSolution], list[ScoredSolution]]:
    """The records that could be read, with the model's scores."""
    options = run.config.eval
    if not options.data:
        raise UserError(f"config.eval.data: kind {options.kind} needs a file of step-labelled solutions")
    records = [record for record in read_records(options.data, "config.eval.data", run.config) if record.steps]
    scorer = make_scorer(run)
    found = scorer.score([r.problem for r in records], [r.steps for r in records])
    kept = [i for i, scores in enumerate(found) if scores is not None]
    notes += [f"{told}." for told in scorer.told_left_out()]
    if not kept:
        raise UserError(f"config.eval.data={options.data}: no solution could be read ({'; '.join(notes)})")
    return [records[i] for i in kept], [as_scored(records[i], found[i], options.tuning) for i in kept]


def as_scored(record: LabelledSolution, scores: Any, tuning: float) -> ScoredSolution:
    """A record with a model's scores. Ratings of prefixes keep their meaning: right so far."""
    return ScoredSolution(
        right=p_right(scores),
        rating=record.ratings,
        value=record.values,
        first_error=record.error_at(),
        outcome=record.correct,
        classes=scores if scores.ndim == 2 else None,
        tuning=is_tuning(record.group_key, tuning),
    )


def score_responses(run: Run, notes: list[str]) -> list[ScoredSolution]:
    """Responses to held-out problems, rated by the task and scored by the run's model."""
    options = run.config.eval
    scorer = make_scorer(run)
    responses = sample_problems(run, options.stage, each=1)
    if all(r.step_ratings is None for r in responses):
        raise UserError(
            f"config.eval.data: task {run.task.name} cannot rate single steps; name a file of step-labelled solutions"
        )
    scores = scorer.score_responses(responses)
    write_responses(run, options.stage, responses, scores)
    notes += [f"{told}." for told in scorer.told_left_out()]
    return [
        rated_solution(response, of_one, options.tuning)
        for response, of_one in zip(responses, scores, strict=True)
        if of_one is not None and len(response.steps)
    ]


def rated_solution(
    response: Response, scores: np.ndarray, tuning: float, values: Sequence[float | None] = ()
) -> ScoredSolution:
    """A response with the task's own word on its steps, a model's scores float[S, 3], and values where it has some."""
    ratings = known_ratings(response.step_ratings or [], response.finished, len(response.steps))
    wrong = [k for k, rating in enumerate(ratings) if rating is not None and rating < 0]
    return ScoredSolution(
        right=p_right(scores),
        rating=ratings,
        value=values,
        first_error=wrong[0] if wrong else -1,
        outcome=response.correct,
        classes=scores,
        tuning=is_tuning(response.problem.prompt, tuning),
    )


def known_ratings(step_ratings: Sequence[Any], finished: bool, steps: int) -> list[int | None]:
    """The verifier's rating of each step; None for one that truncation cut off."""
    ratings: list[int | None] = [j.rating for j in step_ratings] or [None] * steps
    if not finished and ratings:
        ratings[-1] = None
    return ratings
