"""A critic of a `long_writer`'s states that is learned along with the policy: a table, as its reward model is."""

import numpy as np
from jaxtyping import Float

from stepjax.studies.long_writer import LongWritten

CRITIC_RATE = 0.5
"""Share of the way to the mean return of a round that a learned value goes."""


class LearnedCritic:
    """Values of each stream and state, 0 at first; they follow the mean returns of rounds that visit the state.

    Attributes:
      values: `[N, K + 1, 2]`, by stream and state (derived so far, whether an error stands).
    """

    def __init__(self, states: int, streams: int):
        self.values = np.zeros((streams, states, 2))

    def learn(self, written: LongWritten, returns: Float[np.ndarray, "B N T"]) -> None:
        """Takes in the returns of a round's steps."""
        rows, steps = np.nonzero(written.there)
        shape = self.values.shape[1:]
        at = np.ravel_multi_index((written.derived[rows, steps], written.error[rows, steps]), shape)
        visits = np.bincount(at, minlength=np.prod(shape)).reshape(shape)
        for n, value in enumerate(self.values):
            sums = np.bincount(at, returns[rows, n, steps], np.prod(shape)).reshape(shape)
            value += CRITIC_RATE * np.where(visits > 0, sums / np.maximum(visits, 1) - value, 0.0)
