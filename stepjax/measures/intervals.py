"""How sure a share is."""

import math
from statistics import NormalDist


def wilson(correct: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """The Wilson score interval of a share, `correct` of `total`; (0, 1) where there is nothing yet.

    With p = correct / total and n = total: (p + z²/2n ± z·√(p(1 − p)/n + z²/4n²)) / (1 + z²/n) [Wilson 1927].

    Args:
      z: how many standard deviations wide it is to either side; 1.96: 95 %.
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
