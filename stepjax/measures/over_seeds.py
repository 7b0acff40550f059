"""Means over seeds with bootstrap intervals, and differences paired by seed.

Percentile intervals of few seeds are narrow: of normal values they hold the mean in 84 % of cases with five seeds, 90 %
with eight, 94 % with twenty, where 95 % is asked for. `student` is the half width that holds 95 % of normal values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

RESAMPLES = 9999


@dataclass(frozen=True)
class Summary:
    """A mean over seeds.

    Attributes:
      mean: NaN where there are no values.
      low, high: ends of the bootstrap interval; NaN of fewer than two values.
      student: half the width of Student's interval; NaN of fewer than two values.
      count: values that there were.
    """

    mean: float
    low: float
    high: float
    student: float
    count: int


def summary(values: Sequence[float], confidence: float = 0.95) -> Summary:
    """Mean of the finite values and its percentile bootstrap interval [Efron 1979]; the same for the same values."""
    known = np.asarray(values, np.float64)
    known = known[np.isfinite(known)]
    if len(known) < 2:
        return Summary(float(known.mean()) if len(known) else np.nan, np.nan, np.nan, np.nan, len(known))
    found = stats.bootstrap(
        (known,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    half = stats.t.ppf((1 + confidence) / 2, len(known) - 1) * known.std(ddof=1) / np.sqrt(len(known))
    return Summary(float(known.mean()), float(found.low), float(found.high), float(half), len(known))


def paired(values: Mapping[int, float], reference: Mapping[int, float], confidence: float = 0.95) -> Summary:
    """The differences `values` − `reference` of the seeds that both have, summed up; by seed, so that what a seed does
    to both leaves them."""
    common = [seed for seed in values if seed in reference]
    return summary([values[seed] - reference[seed] for seed in common], confidence)
