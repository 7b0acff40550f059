"""Sizes of the rollout that answers a search's questions."""

import dataclasses

from stepjax.rollout.program import RolloutShape


@dataclasses.dataclass(frozen=True)
class LiveSizes:
    """Sizes that the rollout is compiled for.

    Attributes:
      prompt_width: tokens of the widest prompt.
      new_tokens: tokens that a response may have.
      slots: continuations that decode at once; a multiple of the devices along the batch.
      rows: prefixes that are held and continuations that decode or wait, together; likewise, and two a device at least.
      block, cache_tokens: as of `RolloutShape`.
      prefill_rows: prefixes that are prefilled at once.
    """

    prompt_width: int
    new_tokens: int
    slots: int
    rows: int
    block: int = 0
    cache_tokens: int = 0
    prefill_rows: int = 8

    def shape(self, devices: int) -> RolloutShape:
        """The rollout's."""
        if self.rows % devices or self.slots % devices or self.rows < 2 * devices:
            raise ValueError(f"{self.rows} rows and {self.slots} slots cannot be divided among {devices} devices")
        each = max(self.prefill_rows // devices, 1)
        while self.rows // devices % each:
            each -= 1
        return RolloutShape(
            self.rows,
            self.prompt_width,
            self.new_tokens,
            samples=self.rows // devices // each,
            slots=self.slots,
            prefill_rows=each * devices,
            block=self.block,
            cache_tokens=self.cache_tokens,
            resumed=True,
            holds=True,
        )
