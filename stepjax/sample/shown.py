"""A response for the terminal: its steps, a line each, with P(right) and exact ratings."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from stepjax.console.terminal import one_line
from stepjax.data.schema import LabelledSolution
from stepjax.report.filters import replies_of

MOST = 400
"""Characters of a line of a model's text."""
MARKS = {1: "✓", 0: "○", -1: "✗", None: " "}
"""Exact ratings: good, neutral, bad, not known."""


@dataclass(frozen=True)
class Shown:
    """A response.

    Attributes:
      name, problem, answer: "" where they are not shown.
      correct: None where it was not graded.
      ratings, prm: exact rating and P(right) of each step; None where it is not known.
      replies: numbers of the steps that are an environment's.
    """

    name: str
    problem: str
    answer: str
    steps: Sequence[str]
    correct: bool | None
    finished: bool
    ratings: Sequence[int | None]
    prm: Sequence[float | None]
    replies: Collection[int] = ()

    @classmethod
    def of_record(cls, record: LabelledSolution) -> "Shown":
        """A line of a file that `stepjax eval` or `stepjax sample` wrote; of any other record what it has."""
        count, extra = len(record.steps), record.extra
        return cls(
            name=record.id or record.place,
            problem=record.problem,
            answer=record.answer,
            steps=record.steps,
            correct=record.correct,
            finished=extra.get("unfinished") is not True,
            ratings=_column(extra.get("step_ratings"), (int,), count) or list(record.ratings),
            prm=_column(extra.get("prm"), (int, float), count) or [None] * count,
            replies=replies_of(extra),
        )


def _column(values: object, kinds: tuple[type, ...], count: int) -> list | None:
    """One value a step, None for one of another kind; None where it is no list of that length."""
    if not isinstance(values, list) or len(values) != count:
        return None
    return [value if isinstance(value, kinds) and not isinstance(value, bool) else None for value in values]


def shown_lines(shown: Shown) -> list[str]:
    """A heading where something is known of the whole response, then the steps."""
    grade = {True: "right", False: "wrong", None: ""}[shown.correct]
    whole = [one_line(shown.name, 80), grade, "" if shown.finished else "cut off"]
    lines = ["", ", ".join(word for word in whole if word) or "response"]
    if shown.problem:
        lines += [f"  {one_line(text, MOST)}" for text in shown.problem.splitlines() if text.strip()]
    if shown.answer:
        lines.append(f"  right answer: {one_line(shown.answer, MOST)}")
    for number, (step, rating, p) in enumerate(zip(shown.steps, shown.ratings, shown.prm, strict=True), 1):
        first, *more = [one_line(text, MOST) for text in step.strip().splitlines()] or [""]
        mark, score = MARKS.get(rating, " "), "    " if p is None else f"{p:.2f}"
        lines.append(f"  {number:>3}  {mark} {score}  {first}".rstrip())
        lines += [f"{'':>15}{text}" for text in more]
    return lines
