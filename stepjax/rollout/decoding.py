"""How rows are decoded in slots: sizes, stops, and the sampler."""

import dataclasses
import math

from stepjax.kept import KeptForm
from stepjax.rollout.environment import HostTool
from stepjax.rollout.sampling import Sampler
from stepjax.rollout.stops import Stops

LOGGED = 256
"""Steps of a turn, at most, where there are no blocks."""

REDUCTIONS = 4
"""How often the slots are reduced on their way down to one: a compiled stage each."""


@dataclasses.dataclass(frozen=True)
class Decoding:
    """How rows are decoded; fixed when the program is compiled.

    Attributes:
      new_tokens: W, tokens of the longest response.
      slots: rows that decode at once; a multiple of the devices along the batch.
      eos: the ids that end a response; one of them is its last token.
      sampler: how a token is sampled.
      tool: an environment that may write into the responses; its tokens have log-probability 0 and are `env_tokens`.
      stops: what else ends a response.
      record: whether the tokens that the sampler's filters keep are recorded (`stepjax/kept.py`).
      prefill_rows: prompts that are prefilled at once; 0: all.
      halvings: how often the slots may be halved when the queue is empty. Each makes compiling take longer. −1: they
        are halved once, and then reduced by one factor down to one, `REDUCTIONS` times in all at most.
      fewest: slots per device up to which they stay; larger numbers are reduced, down to one.
      page: tokens of a block of the cache, and columns of the ring; 0: there are no blocks, and the ring holds the
        longest response.
      blocks: on each device.
      ample: that many suffice for whatever rows decode together.
      growths: without blocks, how often the ring is doubled until it holds the longest response, so that earlier steps
        read a smaller one. Each makes compiling take longer.
      holds: rows may be held when they end.
    """

    new_tokens: int
    slots: int
    eos: tuple[int, ...]
    sampler: Sampler
    tool: HostTool | None = None
    stops: Stops | None = None
    record: bool = False
    prefill_rows: int = 0
    halvings: int = 1
    fewest: int = 8
    page: int = 0
    blocks: int = 0
    ample: bool = True
    growths: int = 0
    holds: bool = False

    def kept_form(self, vocab: int) -> KeptForm | None:
        """How the kept tokens are recorded; None: they are not."""
        return self.sampler.kept_form(vocab, self.eos) if self.record else None

    def sizes(self, devices: int) -> list[int]:
        """The number of slots, and the numbers that it is reduced to."""
        each, times = self.slots // devices, REDUCTIONS if self.halvings < 0 else self.halvings
        if not times or each <= self.fewest:
            return [self.slots]
        found, factor = [each, -(-each // 2)], 2
        if self.halvings < 0:
            factor = max(math.ceil(found[1] ** (1 / (REDUCTIONS - 1)) - 1e-9), 2)
        for _ in range(times - 1):
            if found[-1] > 1:
                found.append(-(-found[-1] // factor))
        return [size * devices for size in found]

    @property
    def ring(self) -> int:
        """Columns behind the prompts, which go round."""
        return self.page or max(self.new_tokens - 1, 1)

    def rings(self) -> list[int]:
        """Numbers of columns of the ring: the first one, and those that it is doubled to."""
        growths = 0 if self.page else self.growths
        return sorted({-(-self.ring >> i) for i in range(growths + 1)})

    @property
    def own_blocks(self) -> int:
        """The most blocks that a row holds beside its prompt's."""
        return -(-(self.new_tokens - 1) // self.page) if self.page else 0

    def turn(self, rows: int) -> int:
        """The steps from one look at the log, and at the ring, to the next."""
        return self.ring if self.page else min(self.steps(rows), LOGGED)

    def steps(self, rows: int) -> int:
        """The steps that `rows` rows take at most: after each W of them every slot has ended a row."""
        return -(-rows // self.slots) * self.new_tokens
