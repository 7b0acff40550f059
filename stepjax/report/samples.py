"""Which responses the report shows: the first, middle and last iteration of every stage, grouped by problem."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stepjax.report.cards import Card, longest_bars, make_card
from stepjax.report.text import number, title

MAX_SAMPLES = 30


@dataclass(frozen=True)
class Iteration:
    """The cards of one (stage, step), and how many responses were logged there."""

    label: str
    place: str  # "first", "middle", "last" or ""
    logged: int
    right: int
    cards: list[Card]


def pick(samples: Sequence[dict[str, Any]], limit: int = MAX_SAMPLES) -> list[Iteration]:
    """The first, middle and last iteration of each stage, `limit` cards in all; the same problems where possible."""
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for sample in samples:
        step, stage = number(sample.get("step")), sample.get("stage")
        groups.setdefault((stage if isinstance(stage, str) else "", int(step or 0)), []).append(sample)
    chosen: list[tuple[tuple[str, int], str]] = []
    for stage in dict.fromkeys(stage for stage, _ in groups):
        steps = sorted(step for name, step in groups if name == stage)
        places = {steps[len(steps) // 2]: "middle", steps[-1]: "last", steps[0]: "first"}
        chosen += [((stage, step), places[step] if len(steps) > 1 else "") for step in sorted(places)]
    chosen = chosen[:limit]
    # Problems that every iteration shows come first: they can be compared.
    problems = [{str(sample.get("problem")) for sample in groups[key]} for key, _ in chosen]
    shared = set.intersection(*problems) if problems else set()
    ordered = [sorted(groups[key], key=lambda s: str(s.get("problem")) not in shared) for key, _ in chosen]
    counts = _shares([len(group) for group in ordered], limit)
    shown = [group[:count] for group, count in zip(ordered, counts, strict=True)]
    longest = longest_bars([sample for group in shown for sample in group])
    return [
        Iteration(
            label=_label(*key),
            place=place,
            logged=len(group),
            right=sum(sample.get("correct") is True for sample in group),
            cards=[make_card(sample, longest) for sample in part],
        )
        for (key, place), group, part in zip(chosen, ordered, shown, strict=True)
    ]


def _label(stage: str, step: int) -> str:
    return f"{title(stage)} {'iteration' if stage == 'ppo' else 'update'} {step}".strip()


def _shares(sizes: list[int], limit: int) -> list[int]:
    """`limit` cards dealt in turn, so that the others get what a small iteration leaves."""
    counts = [0] * len(sizes)
    while sum(counts) < limit and counts != sizes:
        for i, size in enumerate(sizes):
            if counts[i] < size and sum(counts) < limit:
                counts[i] += 1
    return counts
