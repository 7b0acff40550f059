"""Confidence intervals of a fraction of right completions."""

import math
from statistics import NormalDist


def wilson(correct: int, total: int, confidence: float) -> tuple[float, float]:
    """The Wilson score interval of a fraction, `correct` of `total`; (0, 1) where `total` is 0.

    With z the normal quantile of (1 + confidence) / 2, p = correct / total and n = total:
    (p + z²/2n ± z·√(p(1 − p)/n + z²/4n²)) / (1 + z²/n) [Wilson 1927].
    """
    if total == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1.0 + confidence) / 2.0)
    share, spread = correct / total, z * z / total
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / total + spread / (4 * total)) / (1 + spread)
    return (0.0 if correct == 0 else max(middle - half, 0.0)), (1.0 if correct == total else min(middle + half, 1.0))
