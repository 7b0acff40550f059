"""Evaluation of selection: best-of-N by the process reward model, majority votes and pass@N."""

import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from stepjax.answers.grading import group_answers
from stepjax.evaluation.responses import write_responses
from stepjax.evaluation.results import publish
from stepjax.evaluation.scorer import make_scorer, p_right
from stepjax.measures.best_of_n import Pool, best_of_n_report
from stepjax.runs.response_sampling import sample_problems
from stepjax.runs.responses import Response
from stepjax.runs.setup import Run
from stepjax.tasks.base import Task
from stepjax.tasks.hooks import GroupsAnswers


def measure_best_of_n(run: Run) -> dict[str, Any]:
    """Samples `eval.pool` responses per problem, scores them, and measures every way to select among N of them."""
    start, options = time.perf_counter(), run.config.eval
    scorer = make_scorer(run)
    responses = sample_problems(run, options.stage, each=options.pool)
    scores = scorer.score_responses(responses)
    write_responses(run, options.stage, responses, scores)
    notes = [f"{told}; they score 0." for told in scorer.told_left_out()]
    pools = make_pools(run.task, responses, scores, options.pool)
    found: dict[str, Any] = {
        "stage": options.stage,
        "split": options.split,
        "temperature": options.temperature,
        **best_of_n_report(pools, resamples=options.resamples, seed=options.seed),
        "notes": notes,
    }
    return publish(run, "best_of_n", found, since=start)


def make_pools(task: Task, responses: Sequence[Response], scores: Sequence[np.ndarray | None], size: int) -> list[Pool]:
    """Pools of `size` adjacent responses; a response that was not read or not finished scores 0."""
    pools = []
    for first in range(0, len(responses), size):
        some = responses[first : first + size]
        nothing = np.zeros(1)
        pools.append(
            Pool(
                right=np.array([r.correct for r in some]),
                answers=answer_groups(task, some),
                scores=[
                    nothing if s is None or not r.finished else p_right(s)
                    for r, s in zip(some, scores[first : first + size], strict=True)
                ],
                steps=np.array([len(r.steps) for r in some]),
            )
        )
    return pools


class Written(Protocol):
    """What a vote needs of a response."""

    @property
    def text(self) -> str: ...

    @property
    def finished(self) -> bool: ...


def answer_groups(task: Task, responses: Sequence[Written]) -> np.ndarray:
    """Which responses to one problem give the same final answer; −1 where there is none or it was truncated."""
    texts = [r.text if r.finished else "" for r in responses]
    groups = task.group_answers(texts) if isinstance(task, GroupsAnswers) else group_answers(texts)
    return np.array(groups, np.int64)
