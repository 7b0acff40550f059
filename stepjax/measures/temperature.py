"""Temperature scaling: one number that calibrates a classifier's probabilities [Guo 2017]."""

import numpy as np
from jaxtyping import Float

_LEAST, _MOST = 0.05, 20.0
_NEVER = 1e-300  # an impossible class stays so at any of these temperatures


def tempered(probabilities: Float[np.ndarray, "n C"], temperature: float) -> Float[np.ndarray, "n C"]:
    """softmax(log p / T): the probabilities of the logits divided by T."""
    logits = np.log(np.maximum(np.asarray(probabilities, np.float64), _NEVER)) / temperature
    logits -= logits.max(axis=-1, keepdims=True)
    powers = np.exp(logits)
    return powers / powers.sum(axis=-1, keepdims=True)


def negative_log_likelihood(probabilities: Float[np.ndarray, "n C"], truth: Float[np.ndarray, "n C"]) -> float:
    """Mean cross-entropy, nats, of the truth (a distribution a row) under the probabilities."""
    return float(-np.mean(np.sum(truth * np.log(np.maximum(probabilities, 1e-12)), axis=-1)))


def fit_temperature(probabilities: Float[np.ndarray, "n C"], truth: Float[np.ndarray, "n C"]) -> float:
    """The T in [0.05, 20] of the least negative log-likelihood; 1 without data.

    The likelihood is concave in 1/T, so the golden-section search finds its one maximum.
    """
    if not len(probabilities):
        return 1.0
    low, high = np.log(_LEAST), np.log(_MOST)
    ratio = (np.sqrt(5) - 1) / 2

    def loss(log_temperature: float) -> float:
        return negative_log_likelihood(tempered(probabilities, float(np.exp(log_temperature))), truth)

    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = loss(left), loss(right)
    for _ in range(40):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = loss(right)
    return float(np.exp((low + high) / 2))
