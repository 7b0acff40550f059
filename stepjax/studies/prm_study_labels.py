"""Five kinds of labels of the same responses, and the training examples of a process reward model."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepjax.config import PRMOptions
from stepjax.console.progress import progress
from stepjax.data.packing import Example
from stepjax.data.step_encoding import EncodedSolution, labelled, step_targets
from stepjax.drive import drive
from stepjax.evaluation.prm import known_ratings
from stepjax.labels.monte_carlo import Completions, monte_carlo
from stepjax.labels.solution import Complete, Solution
from stepjax.labels.sources import solutions
from stepjax.runs.response_records import record_of
from stepjax.runs.responses import Response
from stepjax.runs.setup import Run

COMPLETIONS = 8  # of each prefix, for labels [Wang 2023]

Values = Sequence[float | None]
Labels = Callable[[Response, Values], Values]


def exact(response: Response, values: Values) -> Values:
    ratings = known_ratings(response.step_ratings or [], response.finished, len(response.steps))
    return [None if rating is None else float(rating >= 0) for rating in ratings]


def hard(response: Response, values: Values) -> Values:
    return [None if value is None else float(value > 0) for value in values]


def soft(response: Response, values: Values) -> Values:
    return values


def value(response: Response, values: Values) -> Values:
    return [float(response.correct)] * len(response.steps)


def outcome(response: Response, values: Values) -> Values:
    return [*[None] * (len(response.steps) - 1), float(response.correct)]


KINDS: dict[str, Labels] = {f.__name__: f for f in (exact, hard, soft, value, outcome)}
"""P(good) of each step by kind of label, from a response and the Monte Carlo values of its steps; None: no label."""


def with_values(
    run: Run, responses: Sequence[Response], complete: Complete, completions: int, *, enough: int, label: str
) -> list[Solution]:
    """Responses (each has a step) as solutions whose records hold the soft Monte Carlo values of their steps.

    Args:
      completions: N of a prefix.
      enough: completions that are asked for at once, where so many are open.
      label: of the progress bar.
    """
    found = solutions(run, [record_of(run, response, str(i)) for i, response in enumerate(responses)])
    records = {}
    labellings = (monte_carlo(solution, Completions(completions), "soft") for solution in found)
    with progress(label, len(found), "responses") as bar:
        for record in drive(labellings, complete, enough=enough, weight=lambda request: request.count):
            records[record.id] = record
            bar.advance(1)
    return [dataclasses.replace(found[i], record=records[str(i)]) for i in range(len(responses))]


def label_figures(responses: Sequence[Response], values: Sequence[Values]) -> dict[str, Any]:
    """How the labels of steps agree with the verifier's: the share of equal labels."""
    found = {}
    for kind, labels in KINDS.items():
        pairs = [
            (a >= 0.5, b >= 0.5)
            for r, v in zip(responses, values, strict=True)
            for a, b in zip(exact(r, v), labels(r, v), strict=True)
            if a is not None and b is not None
        ]
        found[kind] = {"steps": len(pairs), "same": float(np.mean([a == b for a, b in pairs]))}
    return found


def example(solution: Solution, values: Values, options: PRMOptions) -> Example:
    """The solution's own tokens with a soft label on the last one of each step that has a value."""
    record = solution.record.with_labels(kind="value", ratings=(), values=tuple(values))
    targets = step_targets(record, options, Counter())
    return labelled(encoded(solution), targets, every_token=options.every_token, soft=True)


def encoded(solution: Solution) -> EncodedSolution:
    """A solution as it was sampled: its tokens are not encoded again."""
    prompt, step, steps = len(solution.prompt), np.asarray(solution.step), np.arange(solution.steps)
    last = np.searchsorted(step, steps, side="right") - 1
    ends = np.where((last >= 0) & (step[last] == steps), prompt + last, -1)
    tokens = np.array([*solution.prompt, *solution.tokens], np.int32)
    return EncodedSolution(tokens, prompt, ends.astype(np.int32), np.concatenate([np.full(prompt, -1, np.int32), step]))
