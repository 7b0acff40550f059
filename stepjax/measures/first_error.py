"""Finding the first wrong step of a solution, as ProcessBench measures it [Zheng 2024, 2412.06559]."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

NONE = -1
"""The place of the first error where there is none."""


@dataclass(frozen=True)
class FirstErrors:
    """How often the place of the first error was found.

    Attributes:
      error: share of the wrong solutions whose first wrong step was named exactly; NaN where there are none.
      correct: share of the correct ones in which no step was found wrong; NaN where there are none.
      f1: the harmonic mean of the two; NaN where one of them is.
      wrong, right: how many solutions of each kind there are.
    """

    error: float
    correct: float
    f1: float
    wrong: int
    right: int


def first_below(scores: Float[np.ndarray, " steps"], threshold: float) -> int:
    """The first step whose score is below the threshold; `NONE` where there is none.

    Raises:
      ValueError: where a score is NaN, which is neither below nor above.
    """
    scores = np.asarray(scores, np.float64)
    if np.isnan(scores).any():
        raise ValueError("a score is NaN")
    below = np.flatnonzero(scores < threshold)
    return int(below[0]) if below.size else NONE


def first_errors(found: Int[np.ndarray, " n"], truth: Int[np.ndarray, " n"]) -> FirstErrors:
    """Compares places of first errors (`NONE`: no error), one a solution."""
    found, truth = np.asarray(found, np.int64), np.asarray(truth, np.int64)
    if found.shape != truth.shape or found.ndim != 1:
        raise ValueError(f"{found.shape} found places, but {truth.shape} true ones")
    wrong = truth != NONE
    hit = found == truth
    error, correct = (float(hit[of].mean()) if of.any() else float("nan") for of in (wrong, ~wrong))
    return FirstErrors(error, correct, _harmonic(error, correct), int(wrong.sum()), int((~wrong).sum()))


def tune_threshold(scores: Sequence[Float[np.ndarray, " steps"]], truth: Int[np.ndarray, " n"]) -> float:
    """The threshold of `first_below` with the highest F1 on these solutions; 0.5 where one kind is missing.

    Exact: a solution is classified right for thresholds in one interval, (score of the true first error, least score
    before it] or (−∞, least score], so F1 only changes at the intervals' ends. Of several best stretches the longest
    one counts, and of it the middle, since a threshold next to a score would fit its last digit.
    """
    truth = np.asarray(truth, np.int64)
    wrong = truth != NONE
    if not wrong.any() or wrong.all():
        return 0.5
    low, high = np.empty(len(truth)), np.empty(len(truth))
    for i, (of_one, place) in enumerate(zip(scores, truth, strict=True)):
        of_one = np.asarray(of_one, np.float64)
        if np.isnan(of_one).any():
            raise ValueError("a score is NaN")
        before = of_one if place == NONE else of_one[:place]
        high[i] = before.min(initial=np.inf)
        low[i] = -np.inf if place == NONE else of_one[place] if place < len(of_one) else np.inf
    ends = np.unique(np.concatenate([low, high]))
    ends = ends[np.isfinite(ends)]
    if not ends.size:
        return 0.5
    # Thresholds in (ends[k], ends[k + 1]] are all the same; beyond the outermost scores a little on either side.
    edges = np.concatenate([[ends[0] - 1.0], ends, [ends[-1] + 1.0]])
    middles = (edges[:-1] + edges[1:]) / 2
    hits = {
        kind: np.searchsorted(np.sort(low[of & (low < high)]), middles, side="left")
        - np.searchsorted(np.sort(high[of & (low < high)]), middles, side="left")
        for kind, of in (("wrong", wrong), ("right", ~wrong))
    }
    error, correct = hits["wrong"] / wrong.sum(), hits["right"] / (~wrong).sum()
    f1 = np.where(error + correct > 0, 2 * error * correct / np.maximum(error + correct, 1e-300), 0.0)
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    return float(middles[best[np.argmax(np.diff(edges)[best])]])


def _harmonic(a: float, b: float) -> float:
    if np.isnan(a) or np.isnan(b):
        return float("nan")
    return 2 * a * b / (a + b) if a + b > 0 else 0.0
