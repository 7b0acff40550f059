"""Which responses of the training the report shows: some of every iteration that logged any."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stepjax.report.cards import Card, end_streams, longest_bars, make_card
from stepjax.report.held_out import FILTERS
from stepjax.report.text import number, title

MAX_SAMPLES = 240
"""Cards in all."""
MAX_EACH = 8
"""Cards of one iteration."""


@dataclass(frozen=True)
class Iteration:
    """The cards of one (stage, step), and how many responses were logged there."""

    stage: str
    step: int
    label: str
    logged: int
    right: int
    cards: list[Card]


def pick(samples: Sequence[dict[str, Any]], limit: int = MAX_SAMPLES) -> list[Iteration]:
    """Every iteration that logged responses, `limit` cards in all; the same problems where possible.

    Where more iterations than `limit` did, as many of them, evenly spaced from the first to the last.
    """
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for sample in samples:
        step, stage = number(sample.get("step")), sample.get("stage")
        groups.setdefault((stage if isinstance(stage, str) else "", int(step or 0)), []).append(sample)
    stages = dict.fromkeys(stage for stage, _ in groups)
    keys = [(stage, step) for stage in stages for step in sorted(step for name, step in groups if name == stage)]
    if len(keys) > limit:
        keys = [keys[round(i * (len(keys) - 1) / (limit - 1))] for i in range(limit)]
    # Problems that every iteration shows come first: they can be compared.
    problems = [{str(sample.get("problem")) for sample in groups[key]} for key in keys]
    shared = set.intersection(*problems) if problems else set()
    ordered = [sorted(groups[key], key=lambda s: str(s.get("problem")) not in shared) for key in keys]
    counts = _shares([min(len(group), MAX_EACH) for group in ordered], limit)
    shown = [group[:count] for group, count in zip(ordered, counts, strict=True)]
    everything = [sample for group in shown for sample in group]
    longest, at_end = longest_bars(everything), end_streams(everything)
    return [
        Iteration(
            stage=title(stage),
            step=step,
            label=f"{title(stage)} {'iteration' if stage == 'ppo' else 'update'} {step}".strip(),
            logged=len(group),
            right=sum(sample.get("correct") is True for sample in group),
            cards=[make_card(sample, longest, at_end) for sample in part],
        )
        for (stage, step), group, part in zip(keys, ordered, shown, strict=True)
    ]


def legend(iterations: Sequence[Iteration]) -> str:
    """What a step's colour stands for, in words: of the sources that these responses have, the best known first."""
    words = {
        "model": "the reward model's P(good) − P(bad)",
        "exact": "its exact rating",
        "reward": "its reward",
    }
    sources = {step.source for iteration in iterations for card in iteration.cards for step in card.steps}
    return ", else ".join(of for source, of in words.items() if source in sources)


def logged_filters(iterations: Sequence[Iteration]) -> list[tuple[str, str, list[int]]]:
    """Key, words and number of responses of each filter that finds any of those shown."""
    found = [name for iteration in iterations for card in iteration.cards for name in card.found]
    return [(name, words, [found.count(name)]) for name, (words, _) in FILTERS.items() if name in found]


def _shares(sizes: list[int], limit: int) -> list[int]:
    """`limit` cards dealt in turn, so that the others get what a small iteration leaves."""
    counts = [0] * len(sizes)
    while sum(counts) < limit and counts != sizes:
        for i, size in enumerate(sizes):
            if counts[i] < size and sum(counts) < limit:
                counts[i] += 1
    return counts
