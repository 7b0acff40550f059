"""How well scores rank the true above the false."""

import numpy as np
from jaxtyping import Bool, Float


def auc(scores: Float[np.ndarray, " n"], truth: Bool[np.ndarray, " n"]) -> float:
    """P(score of a true one > score of a false one), ties counting one half: the area under the ROC curve.

    By ranks [Mann and Whitney 1947]; NaN where one of the two kinds is missing.

    Raises:
      ValueError: where a score is NaN, or the two differ in length.
    """
    scores, truth = np.asarray(scores, np.float64), np.asarray(truth, bool)
    if scores.shape != truth.shape or scores.ndim != 1:
        raise ValueError(f"{scores.shape} scores, but {truth.shape} truths")
    if np.isnan(scores).any():
        raise ValueError("a score is NaN")
    positives = int(truth.sum())
    negatives = truth.size - positives
    if not positives or not negatives:
        return float("nan")
    _, group, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2)[group]  # from 1, the middle one of a tie
    return float((ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))
