"""Rows that are added to a paused rollout: where their prompts go, and the inputs of the program that adds them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from stepjax.rollout.program import RolloutShape
from stepjax.rollout.record import Record
from stepjax.rollout.slots import Queue


@dataclasses.dataclass(frozen=True)
class Row:
    """A row that is added.

    Attributes:
      row: its number, that of a row that has ended or was never sampled.
      prompt: its tokens.
      id: the number that names its random key.
      limit: tokens of its response at most; 0: as many as any may have.
      begun: the response's first tokens, which it goes on behind; `logprobs` and `kept` of them as the trajectory shall
        hold them. Only where the shape is `resumed`.
    """

    row: int
    prompt: Sequence[int]
    id: int
    limit: int = 0
    begun: Sequence[int] = ()
    logprobs: Sequence[float] = ()
    kept: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Added:
    """Rows to add, on the host.

    Attributes:
      given: what the program takes behind the state.
      queue: of all rows, and `lengths` of the prompts in all places, once they are added.
    """

    given: tuple[Any, ...]
    queue: Queue
    lengths: np.ndarray


@dataclasses.dataclass(frozen=True)
class Places:
    """Places of prompts: `places` on each of the devices, to which one call adds `at_once` prompts."""

    shape: RolloutShape
    devices: int
    places: int
    at_once: int

    def _device(self, row: int) -> int:
        return row // (self.shape.rows // self.devices)

    def portions(self, rows: Sequence[Row]) -> list[list[Row]]:
        """The rows in portions whose different prompts one call takes."""
        found: list[list[Row]] = [[]]
        texts: list[set[tuple[int, ...]]] = [set() for _ in range(self.devices)]
        for row in rows:
            own, text = texts[self._device(row.row)], (*row.prompt, *row.begun)
            if text not in own and len(own) == self.at_once:
                found.append([])
                texts = [set() for _ in range(self.devices)]
                own = texts[self._device(row.row)]
            own.add(text)
            found[-1].append(row)
        return [some for some in found if some]

    def added(
        self, queue: Queue, is_open: np.ndarray, lengths: np.ndarray, rows: Sequence[Row], record: Record | None
    ) -> Added:
        """Inputs that let the rows begin, whose prompts one call takes.

        Args:
          queue: all rows, on the host; `is_open`: those that decode or wait.
          lengths: of the prompts in all places.
          record: empty, to be filled with what rows begin with; None: none may begin with tokens of its response.

        Raises:
          ValueError: a row has not ended, or no place is free for its prompt.
        """
        shape, count = self.shape, self.devices * self.at_once
        tokens, length = np.zeros((count, shape.entry_width), np.int32), np.zeros(count, np.int32)
        place, begins = np.full(count, self.places, np.int32), np.zeros(shape.rows, bool)
        after: Any = jax.tree.map(np.array, queue)
        lengths, free = lengths.copy(), self._free(queue, is_open)
        for device, places in enumerate(free):
            lengths[[device * self.places + own for own in places]] = 0
        given: dict[tuple[int, tuple[int, ...]], int] = {}
        for row in rows:
            device, text = self._device(row.row), (*row.prompt, *row.begun)
            if is_open[row.row] or begins[row.row]:
                raise ValueError(f"row {row.row} has not ended")
            if (device, text) not in given:
                if not free[device]:
                    raise ValueError(f"row {row.row}: device {device} has no free place for its prompt")
                at = device * self.at_once + sum(d == device for d, _ in given)
                given[device, text] = own = free[device].pop(0)
                tokens[at, shape.entry_width - len(text) :], length[at], place[at] = text, len(text), own
                lengths[device * self.places + own] = len(text)
            begins[row.row] = True
            limit = min(row.limit or shape.new_tokens, shape.new_tokens)
            after.prompt[row.row], after.id[row.row], after.limit[row.row] = given[device, text], row.id, limit
            if record is not None:
                after.start[row.row] = len(row.begun)
                _fill(record, row)
            elif row.begun:
                raise ValueError("rows begin with tokens of their response only where the shape is resumed")
        return Added((tokens, length, place, after, begins, record), after, lengths)

    def _free(self, queue: Queue, is_open: np.ndarray) -> list[list[int]]:
        """On each device the places of prompts that no row reads."""
        by_device = zip(np.split(queue.prompt, self.devices), np.split(is_open, self.devices), strict=True)
        read = [set(prompt[open_rows].tolist()) for prompt, open_rows in by_device]
        return [[place for place in range(self.places) if place not in own] for own in read]


def _fill(record: Any, row: Row) -> None:
    count = len(row.begun)
    record.tokens[row.row, :count], record.logprobs[row.row, :count] = row.begun, row.logprobs
    if record.kept is not None and count:
        record.kept[row.row, :count] = row.kept
