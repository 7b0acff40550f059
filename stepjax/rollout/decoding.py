"""How rows are decoded in slots: sizes, ends, and how a token is drawn."""

import dataclasses

from stepjax.rollout.environment import HostTool
from stepjax.rollout.sampling import Sampler
from stepjax.rollout.stops import Stops


@dataclasses.dataclass(frozen=True)
class Decoding:
    """How rows are decoded; all of it is fixed when the program is compiled.

    Attributes:
      new_tokens: W, tokens of the longest response.
      slots: rows that decode at once; a multiple of the devices along the batch.
      eos: the ids that end a response; one of them is its last token.
      sampler: how a token is drawn.
      tool: an environment that may write into the responses; its tokens have log-probability 0 and are `env_tokens`.
      stops: what else ends a response.
      prefill_rows: prompts that are prefilled at once; 0: all.
      halvings: how often the slots may be halved when the queue is empty. Each makes the program longer to compile.
      fewest: slots a device that are not halved at all; more than these are, down to two.
      growths: how often the cache is doubled until it has room for the longest response; as long as none is longer, a
        step looks at so much less. Each makes the program longer to compile.
    """

    new_tokens: int
    slots: int
    eos: tuple[int, ...]
    sampler: Sampler
    tool: HostTool | None = None
    stops: Stops | None = None
    prefill_rows: int = 0
    halvings: int = 1
    fewest: int = 8
    growths: int = 0

    def sizes(self, devices: int) -> list[int]:
        """The number of slots, and what it is halved to."""
        found = [self.slots // devices]
        for _ in range(self.halvings):
            if found[-1] > (self.fewest if len(found) == 1 else 2):
                found.append(-(-found[-1] // 2))
        return [size * devices for size in found]

    def rings(self) -> list[int]:
        """The columns behind the prompts: those at first, and what they are doubled to."""
        whole = max(self.new_tokens - 1, 1)
        return sorted({-(-whole >> (self.growths - i)) if i < self.growths else whole for i in range(self.growths + 1)})

    def steps(self, rows: int) -> int:
        """The steps that `rows` rows take at most: after each W of them every slot has ended a row."""
        return -(-rows // self.slots) * self.new_tokens
