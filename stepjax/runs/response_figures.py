"""Exact figures of a set of responses."""

from collections import Counter
from collections.abc import Sequence

from stepjax.console.progress import say
from stepjax.runs.responses import Response, limit_kept
from stepjax.runs.tag_figures import tag_figures
from stepjax.separators import separator_pattern
from stepjax.tasks.base import Task
from stepjax.tasks.gsm8k import trivial_calculations
from stepjax.tasks.hooks import MeasuresResponses


def measure(responses: Sequence[Response], task: Task | None = None, *, tags: bool = False) -> dict[str, float]:
    """Exact figures of a set of responses: accuracy, trace error, step shares, lengths.

    trace_error is the share of right-answered responses with a wrong step [Uesato 2022]; holds the share of steps with
    a calculation whose calculation holds, calculation the share of steps that have one, trivial the share of calculator
    notes with a trivial calculation, limit_kept the share of stated step limits that were kept (never by a
    truncation), steps and repeated those of the policy, without an environment's replies.
    A `task` may add figures of its own (`MeasuresResponses`), and `tags` those of responses in tags (`tag_figures`).
    """
    n = max(len(responses), 1)
    steps = [j for r in responses for j in r.step_ratings or []]
    figures = {"accuracy": sum(r.correct for r in responses) / n}
    right = [r for r in responses if r.correct and r.step_ratings]
    right = [r for r in right if all(j.correct is not None for j in r.step_ratings or [])]
    if steps and all(j.correct is not None for j in steps):
        wrong = sum(any(not j.correct for j in r.step_ratings or []) for r in right)
        figures["trace_error"] = wrong / max(len(right), 1)
    if steps:
        for name, rating in (("good", 1), ("neutral", 0), ("bad", -1)):
            figures[name] = sum(j.rating == rating for j in steps) / len(steps)
        calculations = [j for j in steps if j.kind == "calculation"]
        if calculations:
            figures["holds"] = sum(j.rating > 0 for j in calculations) / len(calculations)
            figures["calculation"] = len(calculations) / len(steps)
            notes = [trivial_calculations(step) for r in responses for step in r.steps]
            figures["trivial"] = sum(trivial for trivial, _ in notes) / max(sum(total for _, total in notes), 1)
    if isinstance(task, MeasuresResponses):
        figures |= task.measures([r.problem for r in responses], [r.steps for r in responses])
    if tags:
        figures |= tag_figures(responses)
    limited = [r for r in responses if r.problem.step_limit is not None]
    if limited:
        figures["limit_kept"] = sum(limit_kept(r) > 0 for r in limited) / len(limited)
    own = [r.own_steps for r in responses]
    figures["steps"] = sum(map(len, own)) / n
    figures["tokens"] = sum(len(r.tokens) for r in responses) / n
    figures["truncated"] = sum(not r.finished for r in responses) / n
    figures["repeated"] = sum(map(_repeats, own)) / max(sum(map(len, own)), 1)
    return figures


class SeparatorWatch:
    """Measures how many responses hold the step separator, and says once where none of a round's does.

    Without it every response is a single step, and step-level credit is credit of whole responses.
    """

    def __init__(self, separator: str):
        self._separator, self._told = separator, False

    def __call__(self, responses: Sequence[Response], where: str = "") -> float:
        """Share of the responses in which the separator occurs after the first step has begun; `where` begins the line
        that is printed."""
        pattern = separator_pattern(self._separator)
        share = sum(pattern.search("".join(r.steps)) is not None for r in responses) / max(len(responses), 1)
        if not share and not self._told and any(r.steps for r in responses):
            self._told = True
            say(
                f"{where}none of the {len(responses)} responses holds the step separator {self._separator!r}, so each "
                "is one step; if they have several, set config.task.separator to what ends a step in them"
            )
        return share


def _repeats(steps: Sequence[str]) -> int:
    """Number of steps that repeat an earlier step of the same response word for word."""
    return sum(count - 1 for count in Counter(s.strip() for s in steps).values())
