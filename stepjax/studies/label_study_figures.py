"""Figures of labels by completions, measured against exact ratings.

Solutions are labelled by Monte Carlo (hard, soft) and OmegaPRM with N = 1, 2, 4 … completions of a prefix. All numbers
N and both methods share one set of completions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepjax.console.progress import progress
from stepjax.data.schema import NO_ERROR, LabelledSolution
from stepjax.drive import drive
from stepjax.errors import UserError
from stepjax.judges.cost import Cost
from stepjax.labels.monte_carlo import Completions, monte_carlo
from stepjax.labels.omegaprm import TreeSearch, omegaprm
from stepjax.labels.solution import Complete, Request, Solution
from stepjax.measures.first_error import first_below, first_errors, tune_threshold
from stepjax.runs.setup import Run
from stepjax.studies.remembered import Remembered

DEEPEST = 6
"""Places of steps that figures are given for; later steps are counted with the last."""


@dataclass(frozen=True)
class Rated:
    """A solution and the index of its first wrong step, by the exact verifier; −1: none."""

    solution: Solution
    first_error: int


def sizes_up_to(most: int) -> list[int]:
    """1, 2, 4 … `most`."""
    return [1 << i for i in range(most.bit_length()) if 1 << i <= most]


def study(rated: Sequence[Rated], complete: Complete, most: int) -> dict[str, Any]:
    """Figures of one completer: `strength` (right from the prompt) and, by N, those of each kind of label."""
    remembered = Remembered(complete)
    prompts = {j.solution.prompt: j.solution for j in rated}
    asked = [Request(s.prefix(0), 4) for s in prompts.values()]
    from_start = [c.correct for found in remembered(asked) for c in found]
    for j in rated:  # in order of N below, but sampled at once, in full batches
        asked += [Request(j.solution.prefix(k), most) for k in range(1, j.solution.steps + _open(j.solution))]
    with progress("Completions", len(asked), "prefixes") as bar:
        for at in range(0, len(asked), 32):
            remembered(asked[at : at + 32])
            bar.advance(len(asked[at : at + 32]))
    found: dict[str, Any] = {"strength": float(np.mean(from_start)), "by_n": {}}
    for n in sizes_up_to(most):
        monte = [_alone(monte_carlo(j.solution, Completions(n), "soft"), remembered) for j in rated]
        search = [_alone(omegaprm([j.solution], TreeSearch(n), None), remembered)[0] for j in rated]
        found["by_n"][str(n)] = figures(rated, monte, search)
    return found


def _open(solution: Solution) -> int:
    """1 where there is something to complete after the last step."""
    return int(not solution.finished)


def _alone(labelling: Any, complete: Complete) -> Any:
    return next(drive([labelling], complete, enough=1))


def figures(
    rated: Sequence[Rated], monte: Sequence[LabelledSolution], search: Sequence[LabelledSolution]
) -> dict[str, Any]:
    """First errors and steps by each kind of label: hard (any completion right), soft (at .5, and tuned), OmegaPRM."""
    truth = np.array([j.first_error for j in rated])
    values = [np.array(record.values, np.float64) for record in monte]
    half = np.arange(len(rated)) % 2 == 0
    threshold = tune_threshold([v for v, h in zip(values, half, strict=True) if h], truth[half])
    places = {
        "hard": np.array([first_below(v, 1e-9) for v in values]),
        "soft": np.array([first_below(v, 0.5) for v in values]),
        "soft_tuned": np.array([first_below(v, threshold) for v in values]),
        "omegaprm": np.array([NO_ERROR if r.first_error is None else r.first_error for r in search]),
    }
    found: dict[str, Any] = {"threshold": threshold}
    for kind, place in places.items():
        of = ~half if kind == "soft_tuned" else np.ones(len(rated), bool)
        found[kind] = vars(first_errors(place[of], truth[of])) | {
            "by_place": [
                {"wrong": int(here.sum()), "found": float((place == truth)[here].mean()) if here.any() else None}
                for here in (of & (np.minimum(truth, DEEPEST - 1) == k) & (truth >= 0) for k in range(DEEPEST))
            ]
        }
    found["steps"] = {name: steps_report(rated, values, limit) for name, limit in (("hard", 1e-9), ("soft", 0.5))}
    for name, records in (("monte_carlo", monte), ("omegaprm", search)):
        missed = [r for r, j in zip(records, rated, strict=True) if not j.solution.correct]
        found.setdefault("cost", {})[name] = cost_of(records) | {"of_wrong_answers": cost_of(missed)}
    return found


def steps_report(rated: Sequence[Rated], values: Sequence[np.ndarray], limit: float) -> dict[str, Any]:
    """Labels of single steps against "all right so far": accuracy and both errors, in all and by place of the step."""
    rows = [
        (min(k, DEEPEST - 1), j.first_error == NO_ERROR or k < j.first_error, v >= limit)
        for j, of_one in zip(rated, values, strict=True)
        for k, v in enumerate(of_one)
        if not (j.solution.finished and k == len(of_one) - 1)  # the last one's label is the outcome, not a sample
    ]
    place, right, called = np.array(rows, np.int64).reshape(-1, 3).T

    def report(of: np.ndarray) -> dict[str, Any]:
        def share(x: np.ndarray, among: np.ndarray) -> float | None:
            return float(x[among].mean()) if among.any() else None

        wrong_hits = int((of & (right == 0) & (called == 0)).sum())
        both = int((of & (right == 0)).sum() + (of & (called == 0)).sum())
        return {
            "steps": int(of.sum()),
            "accuracy": share(right == called, of),
            "f1_wrong": 2 * wrong_hits / both if both else None,
            "wrong_called_right": share(called == 1, of & (right == 0)),
            "right_called_wrong": share(called == 0, of & (right == 1)),
        }

    return report(np.ones(len(rows), bool)) | {"by_place": [report(place == k) for k in range(DEEPEST)]}


def cost_of(records: Sequence[LabelledSolution]) -> dict[str, Any]:
    """Completions and tokens per solution."""
    costs = [Cost.from_json(record.extra["cost"]) for record in records]
    count = max(len(records), 1)
    return {"completions": sum(c.completions for c in costs) / count, "tokens": sum(c.tokens for c in costs) / count}


def rate(run: Run, found: Sequence[Solution]) -> list[Rated]:
    """Finished solutions, with the task's own ratings of their steps."""
    rated = []
    for solution in found:
        step_ratings = run.task.rate_steps(solution.problem, solution.record.steps)
        if step_ratings is None:
            raise UserError(f"label_study: task {run.task.name} has no verifier of single steps; use register_chain")
        if solution.finished:
            wrong = [k for k, j in enumerate(step_ratings) if not j.correct]
            rated.append(Rated(solution, wrong[0] if wrong else NO_ERROR))
    return rated
