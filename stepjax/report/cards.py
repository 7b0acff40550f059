"""One response as a card of the report: its steps with their ratings, rewards and advantages."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from stepjax.report.filters import replies_of
from stepjax.report.held_out import FILTERS, Heard
from stepjax.report.text import figure, marked, number

MAX_STEPS = 40  # a response
MARKS = {-1: "bad", 0: "neutral", 1: "good"}


@dataclass(frozen=True)
class Bar:
    """A signed number: its words, and its length in percent of the longest bar of its stream."""

    text: str
    length: float


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
      text: as markup, escaped.
      tone: −4 (bad) … 4 (good), or None: the step is not rated.
      mark: "good", "neutral", "bad", or "": the rating that the tone shows.
      source: where the rating comes from: "model" (the reward model), "exact" (rating), "reward", or "".
      prm: P(bad), P(neutral), P(good), or None.
      exact: the exact rating in a word, or "".
      streams: (name, reward, advantage) of each reward stream.
      tokens: in words, or "".
    """

    text: Markup
    tone: int | None
    mark: str
    source: str
    prm: tuple[float, float, float] | None
    exact: str
    streams: list[tuple[str, Bar | None, Bar | None]]
    tokens: str


@dataclass(frozen=True)
class Card:
    """One response.

    Attributes:
      correct: None where it was not graded.
      streams: (name, reward) of the streams that pay at the response's end alone; steps then show their advantage.
      found: the filters that it passes.
      text: the response as one text, where it has no steps.
    """

    problem: str
    prompt: Markup
    answer: Markup
    correct: bool | None
    truncated: bool
    steps: list[Step]
    more_steps: int
    streams: list[tuple[str, Bar]]
    found: list[str]
    text: Markup


def _steps(sample: dict[str, Any]) -> list[dict[str, Any]]:
    steps = sample.get("steps")
    return [step for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []


def _numbers(step: dict[str, Any], kind: str) -> dict[str, float]:
    """The streams of "rewards" or "advantage" that have a value."""
    values = step.get(kind)
    items = values.items() if isinstance(values, dict) else ()
    return {name: n for name, value in items if (n := number(value)) is not None}


def longest_bars(samples: list[dict[str, Any]]) -> dict[tuple[str, str], float]:
    """The largest size by (kind, stream), so that bars of one stream can be compared over all cards."""
    longest: dict[tuple[str, str], float] = {}
    for sample in samples:
        for step in _steps(sample)[:MAX_STEPS]:
            for kind in ("rewards", "advantage"):
                for name, value in _numbers(step, kind).items():
                    longest[kind, name] = max(longest.get((kind, name), 0.0), abs(value))
    return longest


def make_card(sample: dict[str, Any], longest: dict[tuple[str, str], float], at_end: Collection[str] = ()) -> Card:
    """The card of one line of samples.jsonl.

    `longest`: the full length of each bar, from `longest_bars`. `at_end`: the streams whose reward is shown once, from
    `end_streams`.
    """
    steps, heard = _steps(sample), _heard(sample)
    last = _numbers(steps[-1], "rewards") if steps else {}
    return Card(
        problem=str(sample.get("problem", "")),
        prompt=marked(_text(sample.get("prompt"))),
        answer=marked(_text(sample.get("answer")), 400),
        correct=heard.correct,
        truncated=not heard.finished,
        steps=[_step(step, longest, at_end) for step in steps[:MAX_STEPS]],
        streams=[
            (name, _bar(last, name, longest.get(("rewards", name), abs(last[name])))) for name in last if name in at_end
        ],
        found=[name for name, (_, passes) in FILTERS.items() if passes(heard)],
        more_steps=max(0, len(steps) - MAX_STEPS),
        text=marked("" if steps else _text(sample.get("response"))),
    )


def _heard(sample: dict[str, Any]) -> Heard:
    """What the filters read of a line of samples.jsonl. One without steps raises no alarm."""
    steps, correct = _steps(sample), sample.get("correct")
    probabilities = [_probabilities(step.get("prm")) for step in steps]
    return Heard(
        steps=[_text(step.get("text")) for step in steps] or [_text(sample.get("response")) or "no text"],
        correct=correct if isinstance(correct, bool) else None,
        finished=sample.get("truncated") is not True,
        ratings=[number(step.get("rating")) for step in steps] or [None],
        prm=[None if prm is None else 1.0 - prm[0] for prm in probabilities] or [None],
        replies=replies_of(sample),
    )


def end_streams(samples: list[dict[str, Any]]) -> set[str]:
    """The streams that pay nothing before the last step of any of these responses."""
    paid, early = set[str](), set[str]()
    for sample in samples:
        by_step = [_numbers(step, "rewards") for step in _steps(sample)]
        paid |= {name for of_one in by_step[-1:] for name in of_one} if len(by_step) > 1 else set()
        early |= {name for of_one in by_step[:-1] for name, value in of_one.items() if value}
    return paid - early


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _step(step: dict[str, Any], longest: dict[tuple[str, str], float], at_end: Collection[str]) -> Step:
    rewards, advantages = _numbers(step, "rewards"), _numbers(step, "advantage")
    rewards = {name: value for name, value in rewards.items() if name not in at_end}
    prm, rating = _probabilities(step.get("prm")), number(step.get("rating"))
    exact = MARKS.get(int(rating), "") if rating is not None else ""
    score, mark, source = None, "", ""
    if prm is not None:
        score, mark, source = prm[2] - prm[0], MARKS[prm.index(max(prm)) - 1], "model"
    elif exact:
        score, mark, source = float(rating or 0), exact, "exact"
    elif rewards:
        score = sum(rewards.values()) / (sum(longest["rewards", name] for name in rewards) or 1.0)
        mark, source = MARKS[(score > 0.05) - (score < -0.05)], "reward"
    tokens = number(step.get("tokens"))
    return Step(
        text=marked(_text(step.get("text"))),
        tone=None if score is None else round(4 * max(-1.0, min(1.0, score))),
        mark=mark,
        source=source,
        prm=prm,
        exact=exact,
        streams=[
            (name, _bar(rewards, name, longest["rewards", name]) if name in rewards else None,
             _bar(advantages, name, longest["advantage", name]) if name in advantages else None)
            for name in dict.fromkeys([*rewards, *advantages])
        ],
        tokens="" if tokens is None else figure(tokens) + (" token" if tokens == 1 else " tokens"),
    )  # fmt: skip


def _bar(values: dict[str, float], name: str, longest: float) -> Bar:
    value = values[name]
    text = figure(value)
    return Bar(("+" if value > 0 else "") + text, 100 * value / longest if longest else 0.0)


def _probabilities(value: Any) -> tuple[float, float, float] | None:
    if not isinstance(value, list) or len(value) != 3:
        return None
    bad, neutral, good = (number(v) for v in value)
    return None if bad is None or neutral is None or good is None else (bad, neutral, good)
