"""Which responses go on behind what the cache holds, and which give that up so that the others find blocks.

A response that decodes needs blocks beside those that are held and those that rows begin with. As long as one of each
device finds as many as it may still take, all end, one after the other; so nothing goes on that would leave fewer, and
where fewer are left, responses are held no longer: those first that have waited longest for the environment.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from stepjax.errors import UserError
from stepjax.rollout.pausable import PausableRollout


@dataclasses.dataclass(frozen=True)
class Going:
    """A response that may go on.

    Attributes:
      row: its number.
      begins: blocks of what it would be prefilled with; 0: it is held.
      takes: blocks that it may take beside those, as far as its limit.
    """

    row: int
    begins: int
    takes: int


@dataclasses.dataclass(frozen=True)
class TurnRoom:
    """The room of a rollout's devices. Without blocks it is never short.

    Attributes:
      decoding: the rows that decode or wait for a slot, and what each `takes`.
      held: the rows that are held, those that have waited longest first.
    """

    rollout: PausableRollout
    decoding: Mapping[int, int]
    held: Sequence[int]

    def blocks(self, tokens: int) -> int:
        """Of so many prefilled tokens."""
        page = self.rollout.decoding.page
        return (tokens - 1) // page if page else 0

    def takes(self, start: int, limit: int) -> int:
        """Blocks that a response takes at most from token `start` on; its last token is in none."""
        page = self.rollout.decoding.page
        return -(-max(limit - 1 - start, 0) // page) if page else 0

    def going(self, room: np.ndarray | None, ready: Sequence[Going]) -> list[int]:
        """The rows that go on now, of those that are ready; `room`: `Seen.room`."""
        if room is None:
            return [one.row for one in ready]
        left, needs, found = room.tolist(), self._needs(), []
        for one in ready:
            device = self.rollout.layout.device(one.row)
            takes = max(needs[device], one.takes)
            if left[device] - one.begins >= takes:
                left[device], needs[device] = left[device] - one.begins, takes
                found.append(one.row)
        return found

    def gone(self, room: np.ndarray | None, ready: Sequence[Going], count: int) -> list[int]:
        """Up to `count` rows of each device to be held no longer, where what decodes lacks room, or slots are empty for
        lack of it; none: there is enough, or nothing to be gained.

        Raises:
          UserError: a response does not fit, alone on its device.
        """
        if room is None:
            return []
        found, needs, layout = [], self._needs(), self.rollout.layout
        slots, waiting = self.rollout.decoding.slots // self.rollout.devices, {one.row for one in ready}
        for device in range(self.rollout.devices):
            active = sum(layout.device(row) == device for row in self.decoding)
            first = next((one for one in ready if layout.device(one.row) == device), None)
            least, keep = needs[device], -1
            if first is not None and active < slots:
                least, keep = first.begins + max(least, first.takes), first.row
            if room[device] >= least:
                continue
            held = [row for row in self.held if layout.device(row) == device and row != keep]
            # Those that are ready would begin anew at once.
            found += sorted(held, key=lambda row: row in waiting)[:count]
            if not held and not active:
                raise UserError(
                    "config.ppo.cache_tokens: the cache does not hold a response and what it may still draw; raise it"
                )
        return found

    def _needs(self) -> list[int]:
        """Of each device, what one of the rows that decode may still take."""
        found = [0] * self.rollout.devices
        for row, takes in self.decoding.items():
            device = self.rollout.layout.device(row)
            found[device] = max(found[device], takes)
        return found
