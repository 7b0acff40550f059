"""Sums over responses from which the variances of advantages and of the policy gradient follow.

The policy is a softmax over the moves of each state, its parameters are the logits. A response's gradient is
Σ_s Â_s (e_move − π(state)); responses are independent, so that a batch of B has 1/B of their variance.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from stepjax.studies.credit_writer import Writer, Written


class GradientSums:
    """Of one estimate Â; sums add up over batches."""

    def __init__(self, writer: Writer):
        self._writer = writer
        self._steps = 0
        self._advantage = self._square = 0.0
        self._responses = 0
        self._gradient: Any = np.zeros(writer.moves.size)
        self._gradient_square = 0.0

    def add(self, written: Written, weight: Float[np.ndarray, "B S"], chosen: Bool[np.ndarray, "B S"]) -> None:
        """Adds responses; `weight` is Â of each step that is `chosen`, 0 elsewhere."""
        rows, steps = np.nonzero(chosen)
        estimate = weight[rows, steps].astype(np.float64)
        self._steps += len(estimate)
        self._advantage += float(estimate.sum())
        self._square += float(estimate @ estimate)
        moves, count = self._writer.moves, len(written.move)
        state = tuple(x[rows, steps] for x in (written.derived, written.error, written.restated))
        of_state = np.ravel_multi_index((rows, *state), (count, *moves.shape[:3]))
        of_move = of_state * moves.shape[3] + written.move[rows, steps]
        taken = np.bincount(of_move, estimate, count * moves.size).reshape(count, -1, moves.shape[3])
        seen = np.bincount(of_state, estimate, count * moves[..., 0].size).reshape(count, -1, 1)
        gradient = (taken - seen * moves.reshape(1, -1, moves.shape[3])).reshape(count, -1)
        self._responses += count
        self._gradient = self._gradient + gradient.sum(0)
        self._gradient_square += float((gradient**2).sum())

    @property
    def variance(self) -> float:
        """Of Â over steps."""
        return self._square / self._steps - (self._advantage / self._steps) ** 2

    @property
    def mean(self) -> Float[np.ndarray, " P"]:
        """The mean gradient of a response."""
        return self._gradient / self._responses

    @property
    def gradient_variance(self) -> float:
        """Σ over parameters of the variance of one response's gradient."""
        mean = self.mean
        return (self._gradient_square - self._responses * float(mean @ mean)) / (self._responses - 1)

    @property
    def responses(self) -> float:
        """The number of responses in whose mean gradient signal and noise are as large: Σ variance / |mean|², where the
        noise that is in the mean itself is taken off."""
        mean = self.mean
        signal = float(mean @ mean) - self.gradient_variance / self._responses
        return self.gradient_variance / signal if signal > 0 else np.nan

    def figures(self, reference: "GradientSums") -> dict[str, float]:
        """Its figures; those named `…ratio` in units of the reference's."""
        exact, mean = self._writer.gradient.ravel(), self.mean
        return {
            "ratio": self.variance / reference.variance,
            "gradient_ratio": self.gradient_variance / reference.gradient_variance,
            "noise_ratio": self.responses / reference.responses,
            "responses": self.responses,
            "cosine": float(mean @ exact / np.sqrt((mean @ mean) * (exact @ exact))),
        }
