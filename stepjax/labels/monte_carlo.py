"""Values of prefixes by completions, and labels from these values [Wang 2023, Math-Shepherd]."""

import itertools
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from stepjax.data.schema import LabelledSolution, first_error_of
from stepjax.judges.cost import Cost
from stepjax.labels.solution import Completion, Estimate, Request, Solution
from stepjax.measures.intervals import wilson, z_of

Sampling = Generator[list[Request], list[list[Completion]], Any]


@dataclass(frozen=True)
class Completions:
    """How many completions a prefix gets.

    Attributes:
      count: N; where it is not fixed, the number sampled at a time.
      interval: until the Wilson interval is no wider than this; 0: N is fixed.
      most: … or until this many were sampled.
      confidence: level of the interval.
    """

    count: int = 8
    interval: float = 0.0
    most: int = 64
    confidence: float = 0.9

    def missing(self, estimate: Estimate) -> int:
        """Number of further completions that an estimate needs now."""
        if estimate.outcome is not None:
            return 0
        if estimate.total == 0 or not self.interval:
            return max(self.count - estimate.total, 0)
        low, high = wilson(estimate.correct, estimate.total, z_of(self.confidence))
        return 0 if high - low <= self.interval else min(self.count, max(self.most - estimate.total, 0))


def estimate(solution: Solution, rule: Completions, *, start: bool = False) -> Sampling:
    """The Estimate after each step; with `start` one more in front, before the first step.

    A finished solution has nothing to complete after its last step; an unfinished one is completed from where it
    was cut off.
    """
    places = range(0 if start else 1, solution.steps + 1)
    found = {k: Estimate() for k in places}
    if solution.finished and solution.steps:
        found[solution.steps] = Estimate(outcome=solution.correct)
    while True:
        wanted = [(k, n) for k in places if (n := rule.missing(found[k]))]
        if not wanted:
            return [found[k] for k in places]
        answers = yield [Request(solution.prefix(k), n, found[k].total) for k, n in wanted]
        for (k, _), completions in zip(wanted, answers, strict=True):
            found[k] = found[k].add(completions)


def advances(values: Sequence[float], margin: float = 0.0) -> list[int]:
    """A proxy for "this step advances": the sign of V(t) − V(t−1); S ratings from S + 1 values.

    A change no larger than `margin` counts as none (0, neutral).
    """
    changes = [after - before for before, after in itertools.pairwise(values)]
    return [0 if abs(change) <= margin + 1e-9 else 1 if change > 0 else -1 for change in changes]


def monte_carlo(solution: Solution, rule: Completions, kind: str = "hard", margin: float = 0.0) -> Sampling:
    """Labels of every step from completions of its prefix: a LabelledSolution."""
    found: list[Estimate] = yield from estimate(solution, rule, start=kind == "advances")
    after = found[len(found) - solution.steps :]
    labels: dict[str, Any] = {"kind": "value"}
    if kind == "advances":
        labels = {"kind": "step", "ratings": tuple(advances([e.value for e in found], margin)), "first_error": None}
    elif kind == "soft":
        labels |= {"values": tuple(e.value for e in after), "first_error": None}
    else:
        ratings = tuple(1 if e.reachable else -1 for e in after)
        labels |= {"ratings": ratings, "first_error": first_error_of(ratings)}
    counts = [[e.correct, e.total] if e.outcome is None else None for e in found]
    return labelled(solution, labels, after, sum((e.cost for e in found), Cost()), {"kind": kind, "right_of": counts})


def labelled(
    solution: Solution, labels: dict[str, Any], steps: Sequence[Estimate | None], cost: Cost, extra: dict[str, Any]
) -> LabelledSolution:
    """The solution's record with its labels and their cost; earlier labels are replaced."""
    empty: dict[str, Any] = {"ratings": (), "values": (), "first_error": None}
    return solution.record.with_labels(
        **{**empty, **labels},
        correct=solution.correct if solution.finished else None,
        completions=tuple(None if e is None else e.total for e in steps),
        tokens=tuple(None if e is None else e.tokens for e in steps),
        extra={**solution.record.extra, "label": extra, "cost": cost.to_json()},
    )
