"""How rows are decoded in slots: sizes, stops, and the sampler."""

import dataclasses

from stepjax.kept import KeptForm
from stepjax.rollout.environment import HostTool
from stepjax.rollout.sampling import Sampler
from stepjax.rollout.stops import Stops


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
      halvings: how often the slots may be halved when the queue is empty. Each makes compiling take longer.
      fewest: slots per device up to which they are not halved; larger numbers are, down to two.
      growths: how often the cache is doubled until it fits the longest response, so that earlier steps read a smaller
        cache. Each makes compiling take longer.
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
    growths: int = 0

    def kept_form(self, vocab: int) -> KeptForm | None:
        """How the kept tokens are recorded; None: they are not."""
        return self.sampler.kept_form(vocab, self.eos) if self.record else None

    def sizes(self, devices: int) -> list[int]:
        """The number of slots, and the numbers that it is halved to."""
        found = [self.slots // devices]
        for _ in range(self.halvings):
            if found[-1] > (self.fewest if len(found) == 1 else 2):
                found.append(-(-found[-1] // 2))
        return [size * devices for size in found]

    def rings(self) -> list[int]:
        """Numbers of columns behind the prompts: the first one, and those that it is doubled to."""
        whole = max(self.new_tokens - 1, 1)
        return sorted({-(-whole >> (self.growths - i)) if i < self.growths else whole for i in range(self.growths + 1)})

    def steps(self, rows: int) -> int:
        """The steps that `rows` rows take at most: after each W of them every slot has ended a row."""
        return -(-rows // self.slots) * self.new_tokens
