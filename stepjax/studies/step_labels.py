"""Labels of a `long_writer`'s steps, as labellers without people make them: completions, binary search, judges.

A completion from after a step is right with the probability that the policy's values say, so that completions are drawn
without being written.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from stepjax.studies.long_writer import LongWriter, LongWritten, outcome_rewards
from stepjax.studies.table_prm import Labels, blind, classes, mistaken, two_classes


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Labels, and completions that a response took."""

    labels: Labels
    completions: float = 0.0


Labeller = Callable[[LongWriter, LongWritten, np.random.Generator], Labelled]


def after(writer: LongWriter, written: LongWritten) -> Float[np.ndarray, "B T"]:
    """The chance of a right answer after each step; after a response's last one, whether it is right."""
    quality = writer.values(outcome_rewards(len(writer.moves)))[1]
    found = quality[np.arange(writer.limit), written.derived, written.error, written.move]
    return np.where(is_last(written), written.right[:, None], np.clip(found, 0.0, 1.0))


def is_last(written: LongWritten) -> np.ndarray:
    """Whether a step is its response's last one, `[B, T]`."""
    return written.there & (np.cumsum(written.there, axis=1) == written.there.sum(1, keepdims=True))


def exact(writer: LongWriter, written: LongWritten, rng: np.random.Generator) -> Labelled:
    """RegisterChain's ratings: good, neutral, bad."""
    return Labelled(classes(written.rating))


def exact_prefix(writer: LongWriter, written: LongWritten, rng: np.random.Generator) -> Labelled:
    """Whether no error stands after the step."""
    return Labelled(two_classes(1.0 - written.error_after))


def judged(share: float, *, always: bool = False) -> Labeller:
    """RegisterChain's ratings, of which this share is another class: each by itself or, `always`, the same ones."""

    def label(writer: LongWriter, written: LongWritten, rng: np.random.Generator) -> Labelled:
        if always:
            return Labelled(classes(blind(written, writer, share, rng)))
        return Labelled(classes(mistaken(written.rating, share, rng)))

    return label


def completed(kind: str, count: int) -> Labeller:
    """Monte Carlo labels of `count` completions: "hard" (some are right), "soft" (the share that is) or "advances" (the
    sign of the share's change over the step)."""

    def label(writer: LongWriter, written: LongWritten, rng: np.random.Generator) -> Labelled:
        share, cost = _shares(writer, written, count, rng)
        if kind == "hard":
            return Labelled(two_classes(np.where(share > 0, 1.0, 0.0)), cost)
        if kind == "soft":
            return Labelled(two_classes(share), cost)
        start = writer.values(outcome_rewards(len(writer.moves)))[0][0, 0, 0]
        before = np.concatenate([rng.binomial(count, start, (len(share), 1)) / count, share[:, :-1]], 1)
        return Labelled(classes(np.sign(share - before).astype(int)), cost + count)

    return label


def _shares(
    writer: LongWriter, written: LongWritten, count: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "B T"], float]:
    """The share of right completions after each step, and completions a response; the last step has its outcome."""
    chance, last = after(writer, written), is_last(written)
    share = np.where(last, chance, rng.binomial(count, chance) / count)
    return share, count * float((written.there & ~last).sum() / len(last))


def searched(count: int) -> Labeller:
    """OmegaPRM: bisection for the first step from which no completion is right; right answers have none."""

    def label(writer: LongWriter, written: LongWritten, rng: np.random.Generator) -> Labelled:
        chance, steps = after(writer, written), written.there.sum(1)
        low, high = np.zeros(len(steps), int), np.where(written.right, 0, steps)
        asked = 0
        while (open_ := high - low > 1).any():
            middle = (low + high) // 2
            at = chance[np.arange(len(steps)), np.maximum(middle - 1, 0)]
            reachable = rng.binomial(count, at) > 0
            low, high = np.where(open_ & reachable, middle, low), np.where(open_ & ~reachable, middle, high)
            asked += int(open_.sum())
        first: Int[np.ndarray, " B"] = np.where(written.right, written.move.shape[1], high - 1)
        good = (np.arange(written.move.shape[1]) < first[:, None]).astype(float)
        return Labelled(two_classes(good), count * asked / len(steps))

    return label
