"""Monte Carlo values for a training run of a `long_writer`: the host's signal of the stream that reads them."""

import numpy as np

from stepjax.config import PPOOptions
from stepjax.studies.long_writer import LongWriter, LongWritten
from stepjax.studies.step_labels import after, is_last


class Completed:
    """Monte Carlo values of steps: shares of right completions, which are drawn without being written.

    Attributes:
      steps: that the completions so far would have had, on average.
    """

    def __init__(self, options: PPOOptions, rng: np.random.Generator):
        self.steps = 0.0
        self._name, self._count, self._rng = next(iter(options.streams)), options.mc.completions, rng

    def __call__(self, writer: LongWriter, written: LongWritten) -> dict[str, np.ndarray]:
        chance, last = after(writer, written), is_last(written)
        share = self._rng.binomial(self._count, chance) / self._count
        ahead = writer.values(np.ones(writer.moves.shape))[0]
        rows, steps = np.nonzero(written.there & ~last)
        following = ahead[steps + 1, written.derived[rows, steps + 1], written.error[rows, steps + 1]]
        self.steps += self._count * float(following.sum())
        return {f"stream/{self._name}": np.where(last, chance, share)}
