"""Confidence intervals of a fraction, and of the mean of paired differences."""

import math
from collections.abc import Sequence
from statistics import NormalDist, stdev

from scipy.special import stdtrit


def wilson(correct: float, total: int, z: float = 1.96) -> tuple[float, float]:
    """The Wilson score interval of a fraction, `correct` of `total`; (0, 1) where `total` is 0.

    With p = correct / total and n = total: (p + z²/2n ± z·√(p(1 − p)/n + z²/4n²)) / (1 + z²/n) [Wilson 1927].

    Args:
      correct: how many; it may be a sum of parts.
      z: half the width in standard deviations; 1.96: 95 %.
    """
    if total == 0:
        return 0.0, 1.0
    share = correct / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return (0.0 if correct == 0 else max(centre - half, 0.0)), (1.0 if correct == total else min(centre + half, 1.0))


def z_of(confidence: float) -> float:
    """The z of an interval of that level: the normal quantile of (1 + confidence) / 2."""
    return NormalDist().inv_cdf((1.0 + confidence) / 2.0)


def paired_interval(differences: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean of paired differences and the ends of its confidence interval by Student's t with n − 1 degrees of freedom.

    With a single difference the interval is unbounded. ValueError where there is none.
    """
    n = len(differences)
    if not n:
        raise ValueError("no differences")
    mean = sum(differences) / n
    if n == 1:
        return mean, -math.inf, math.inf
    half = float(stdtrit(n - 1, (1.0 + confidence) / 2.0)) * stdev(differences) / math.sqrt(n)
    return mean, mean - half, mean + half
