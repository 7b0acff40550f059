"""Responses to held-out problems: the same problem before and after, and which of them a reader can filter."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from stepjax.report.filters import Judged, alarm, disagrees, replies_of, step_disagrees, wrong, wrong_step
from stepjax.report.text import marked, number, title
from stepjax.report.verdict import ends

MOST_PLAIN = 8
"""Problems that are shown as they come; the others appear with the filter that finds them."""
MOST_FOUND = 6
"""Problems a filter and a stage that are shown besides."""
MOST_STEPS = 24
MOST_CHARACTERS = 600  # a step
MARKS = {-1: "bad", 0: "neutral", 1: "good"}

FILTERS: Mapping[str, tuple[str, Callable[[Judged], bool]]] = {
    "wrong": ("Wrong answer", wrong),
    "wrong-step": ("Right answer with a wrong step", wrong_step),
    "disagrees": ("PRM disagrees", disagrees),
    "alarm": ("Alarm", alarm),
}
"""The filters of the page: words, and which responses pass."""


@dataclass(frozen=True)
class Heard:
    """A response as `stepjax eval` writes it (a `Judged` of `filters.py`), and `truncated` in the page's words."""

    steps: Sequence[str]
    correct: bool | None
    finished: bool
    ratings: Sequence[float | None]
    prm: Sequence[float | None]
    replies: Collection[int] = ()

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Heard":
        """From a line of responses/STAGE-SPLIT.jsonl; what is not of its kind is not known."""
        extra = row["extra"] if isinstance(row.get("extra"), dict) else {}
        steps = [str(step) for step in row["steps"]] if isinstance(row.get("steps"), list) else []
        correct = row.get("correct")
        return cls(
            steps=steps,
            correct=correct if isinstance(correct, bool) else None,
            finished=extra.get("unfinished") is not True,
            ratings=_column(extra.get("step_ratings"), len(steps)),
            prm=_column(extra.get("prm"), len(steps)),
            replies=replies_of(extra),
        )


def _column(values: Any, count: int) -> list[float | None]:
    """One number a step; None for each where it is no list of that length."""
    if not isinstance(values, list) or len(values) != count:
        return [None] * count
    return [number(value) for value in values]


@dataclass(frozen=True)
class Said:
    """A step: `tone` −4 (bad) … 4 (good), `mark` in words, P(right) in words; None or "" where they are not known."""

    text: Markup
    tone: int | None
    mark: str
    p: str
    differs: bool


@dataclass(frozen=True)
class Side:
    """What one stage wrote to a problem; `found` names the filters that it passes."""

    stage: str
    correct: bool | None
    truncated: bool
    steps: list[Said]
    more_steps: int
    found: list[str]


@dataclass(frozen=True)
class Pair:
    """A problem and its responses, that of the earlier stage first; `first`: it is one of those shown as they come."""

    name: str
    problem: Markup
    answer: Markup
    sides: list[Side]
    first: bool


@dataclass(frozen=True)
class HeldOut:
    """The part of the page.

    Attributes:
      stages: one or two titles, the earlier one first.
      filters: key, words and how many responses of each stage pass, of those filters that could find anything.
      pairs: the problems that are shown.
      total: all problems.
      rated, scored: whether steps have exact ratings, and P(right).
    """

    stages: list[str]
    filters: list[tuple[str, str, list[int]]]
    pairs: list[Pair]
    total: int
    rated: bool
    scored: bool


def held_out(responses: Mapping[str, Sequence[Mapping[str, Any]]]) -> HeldOut | None:
    """The first response to each problem of the first and the last stage; None where there are none."""
    if not responses:
        return None
    stages = list(dict.fromkeys(ends(responses)))
    rows = [{str(row.get("id")): row for row in reversed(responses[stage])} for stage in stages]
    keys = [key for key in _firsts(responses[stages[-1]]) if all(key in of for of in rows)]
    judged = {key: [Heard.of(of[key]) for of in rows] for key in keys}
    everything = [heard for of_one in judged.values() for heard in of_one]
    rated = any(rating is not None for heard in everything for rating in heard.ratings)
    scored = any(p is not None for heard in everything for p in heard.prm)
    able = {"wrong": True, "wrong-step": rated, "disagrees": scored, "alarm": True}
    kinds = {key: [[name for name, (_, test) in FILTERS.items() if able[name] and test(h)] for h in judged[key]]
             for key in keys}  # fmt: skip
    shown = set(_chosen(keys, kinds, len(stages)))
    filters = [
        (name, words, [sum(name in kinds[key][side] for key in keys) for side in range(len(stages))])
        for name, (words, _) in FILTERS.items()
        if able[name]
    ]
    pairs = [
        Pair(
            key.rpartition("/")[0] or key,
            marked(str(rows[-1][key].get("problem", "")), 2000),
            marked(str(rows[-1][key].get("answer", "")), 200),
            [side_of(title(s), h, f) for s, h, f in zip(stages, judged[key], kinds[key], strict=True)],
            key in keys[:MOST_PLAIN],
        )
        for key in keys
        if key in shown
    ]
    return HeldOut([title(stage) for stage in stages], filters, pairs, len(keys), rated, scored) if keys else None


def _firsts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The id of the first response to each problem: ids are PROBLEM/SAMPLE."""
    firsts: dict[str, str] = {}
    for row in rows:
        name = str(row.get("id"))
        firsts.setdefault(name.rpartition("/")[0] or name, name)
    return list(firsts.values())


def _chosen(keys: Sequence[str], kinds: Mapping[str, list[list[str]]], sides: int) -> list[str]:
    """The first problems, and the first ones that each filter finds in each stage."""
    chosen = list(keys[:MOST_PLAIN])
    for name in FILTERS:
        for side in range(sides):
            chosen += [key for key in keys if name in kinds[key][side]][:MOST_FOUND]
    return chosen


def side_of(stage: str, heard: Heard, found: list[str]) -> Side:
    """A response for the page; `stage`: what it is headed with."""
    known = list(zip(heard.steps, heard.ratings, heard.prm, strict=True))
    return Side(
        stage=stage,
        correct=heard.correct,
        truncated=not heard.finished,
        steps=[_said(*of_one) for of_one in known[:MOST_STEPS]],
        more_steps=max(0, len(known) - MOST_STEPS),
        found=found,
    )


def _said(text: str, rating: float | None, p: float | None) -> Said:
    tone, mark = None, ""
    if rating is not None:
        mark = MARKS.get(int(rating), "")
        tone = round(3 * max(-1.0, min(1.0, rating)))
    elif p is not None:
        tone = round(4 * max(-1.0, min(1.0, 2 * p - 1)))
    return Said(marked(text, MOST_CHARACTERS), tone, mark, "" if p is None else f"{p:.2f}", step_disagrees(p, rating))
