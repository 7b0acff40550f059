"""Calibration: whether predictions of 0.7 come true seven times in ten."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class Reliability:
    """Predictions by their size, in bins of equal width over [0, 1].

    Attributes:
      count: predictions in each bin.
      predicted: their mean; NaN in an empty bin.
      observed: the mean outcome; NaN in an empty bin.
    """

    count: Int[np.ndarray, " b"]
    predicted: Float[np.ndarray, " b"]
    observed: Float[np.ndarray, " b"]


def reliability(
    probabilities: Float[np.ndarray, " n"], outcomes: Float[np.ndarray, " n"], *, bins: int = 10
) -> Reliability:
    """The reliability diagram's points. Bin i holds [i/b, (i+1)/b), the last one 1 as well.

    Args:
      probabilities: in [0, 1].
      outcomes: 0 or 1, or a share in [0, 1] (a prefix's value).
      bins: how many.

    Raises:
      ValueError: for a number outside of [0, 1] (NaN too), or different lengths.
    """
    p, y = np.asarray(probabilities, np.float64), np.asarray(outcomes, np.float64)
    if p.shape != y.shape or p.ndim != 1:
        raise ValueError(f"{p.shape} probabilities, but {y.shape} outcomes")
    if not (((p >= 0) & (p <= 1)).all() and ((y >= 0) & (y <= 1)).all()):
        raise ValueError("probabilities and outcomes must lie in [0, 1]")
    at = np.minimum((p * bins).astype(np.int64), bins - 1)
    count = np.bincount(at, minlength=bins)
    with np.errstate(invalid="ignore"):
        predicted, observed = (np.bincount(at, weights=x, minlength=bins) / count for x in (p, y))
    return Reliability(count, predicted, observed)


def calibration_error(found: Reliability) -> float:
    """ECE: mean |predicted − observed| over bins, weighted by their counts [Naeini 2015]; NaN without predictions."""
    total = found.count.sum()
    if not total:
        return float("nan")
    gap = np.where(found.count > 0, np.abs(found.predicted - found.observed), 0.0)
    return float((gap * found.count).sum() / total)
