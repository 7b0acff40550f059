"""Confidence intervals of a fraction, of the mean of paired differences, and of any figure of a list."""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist, stdev, variance
from typing import TypeVar

from scipy.special import stdtrit

T = TypeVar("T")

MOST_GROUPS = 20
"""Of a jackknife."""


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


def jackknife_intervals(
    items: Sequence[T], figures: Callable[[Sequence[T]], Mapping[str, float]], confidence: float = 0.95
) -> dict[str, tuple[float, float]]:
    """An interval of each figure of independent items, by the delete-a-group jackknife [Kott 2001].

    With θ_g the figure without group g of G, its variance is (G − 1)/G · Σ (θ_g − θ̄)², and the interval Student's with
    G − 1 degrees of freedom. It holds for ratios of sums, as a share of all steps is, whose terms lie in the items.

    Args:
      figures: of any items; a figure that one of the lists does not have has no interval.
    """
    count = min(MOST_GROUPS, len(items))
    if count < 2:
        return {}
    parts = [figures([item for i, item in enumerate(items) if i % count != group]) for group in range(count)]
    width = float(stdtrit(count - 1, (1.0 + confidence) / 2.0))
    found = {}
    for name, value in figures(items).items():
        if all(name in part for part in parts):
            half = width * (count - 1) * math.sqrt(variance([part[name] for part in parts]) / count)
            found[name] = (value - half, value + half)
    return found


def of_share(jackknife: tuple[float, float] | None, value: float, items: int) -> tuple[float, float]:
    """The interval of a share in [0, 1], from its jackknife's.

    Where all groups say the same (a share of 0 or 1), it is Wilson's, as if each item had one term; where there is
    none (too few items have a term at all), nothing is known.
    """
    if jackknife is None:
        return 0.0, 1.0
    low, high = jackknife
    if low == high:
        return wilson(value * items, items)
    return max(low, 0.0), min(high, 1.0)
