"""Which prefixes are held in which rows of a rollout, and what of each problem was decoded or read before."""

import collections
import dataclasses
from collections.abc import Callable, Collection
from typing import TypeAlias

Prefix: TypeAlias = tuple[int, tuple[int, ...]]
"""A problem, and ids of a response to it."""


class Nodes:
    """The prefixes that are held; each problem's on one device.

    Attributes:
      rows: of each held prefix, the one that was asked about last at the end.
    """

    def __init__(self, devices: int, rows: int):
        """`rows`: of each device."""
        self.rows: collections.OrderedDict[Prefix, int] = collections.OrderedDict()
        self._devices, self._each, self._device_of = devices, rows, dict[int, int]()

    def device(self, problem: int) -> int:
        """Problems are dealt out in the order in which they are first asked about."""
        return self._device_of.setdefault(problem, len(self._device_of) % self._devices)

    def on(self, row: int) -> int:
        """The device of a row."""
        return row // self._each

    def device_rows(self, device: int) -> range:
        """All rows of a device."""
        return range(device * self._each, (device + 1) * self._each)

    def find(self, prefix: Prefix) -> int | None:
        """The row that holds a prefix, which counts as asked about."""
        row = self.rows.get(prefix)
        if row is not None:
            self.rows.move_to_end(prefix)
        return row

    def oldest(self, device: int, may_go: Callable[[Prefix, int], bool]) -> Prefix | None:
        """Of the prefixes on a device that `may_go`, the one that was asked about least recently."""
        own = self.device_rows(device)
        return next((p for p, row in self.rows.items() if row in own and may_go(p, row)), None)

    def free(self, device: int, busy: Collection[int]) -> list[int]:
        """A device's rows that hold nothing and are not `busy`."""
        taken = {*self.rows.values(), *busy}
        return [row for row in self.device_rows(device) if row not in taken]


@dataclasses.dataclass
class Known:
    """What was decoded or read of each problem: responses up to the ends of steps, and prompts."""

    prefixes: set[Prefix] = dataclasses.field(default_factory=set)

    def split(self, prefix: Prefix, prompt: int) -> tuple[int, int]:
        """Of `prompt` tokens and a prefix behind them: tokens that were never computed, and those that were."""
        problem, ids = prefix
        for n in range(len(ids), -1, -1):
            if (problem, ids[:n]) in self.prefixes:
                return len(ids) - n, prompt + n
        return prompt + len(ids), 0
