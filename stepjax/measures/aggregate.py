"""One score of a solution from the scores of its steps."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

AGGREGATORS: dict[str, Callable[[np.ndarray], float]] = {
    "min": lambda scores: float(scores.min()),
    "product": lambda scores: float(scores.prod()),
    "last": lambda scores: float(scores[-1]),
    "mean": lambda scores: float(scores.mean()),
}
"""Min [Wang 2023], product [Lightman 2023], last (as an outcome reward model reads), mean."""


def aggregate(scores: Float[np.ndarray, " steps"], how: str) -> float:
    """The solution's score by one of `AGGREGATORS`; 0, the least probability, for one without steps.

    Raises:
      ValueError: where a score is not finite.
    """
    scores = np.asarray(scores, np.float64)
    if not np.isfinite(scores).all():
        raise ValueError("a step's score is not finite")
    return AGGREGATORS[how](scores) if scores.size else 0.0
