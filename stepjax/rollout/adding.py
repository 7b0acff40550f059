"""Rows that are added to a paused rollout: where their prompts go, and the inputs of the program that adds them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from stepjax.rollout.program import RolloutShape
from stepjax.rollout.record import Record
from stepjax.rollout.slots import Hold, Queue


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
      steps, hold, greedy: as in `Queue`, where rows may be held.
      draws: False: it draws nothing. What it begins with is prefilled and held, for others to begin behind.
      cached: where the shape has `turns`: that many tokens of `begun` are not prefilled, as the row is held behind them
        (or 0, it has not begun and its prompt is prefilled); it reads the others, one a step, and draws behind these.
        −1: all are prefilled.
    """

    row: int
    prompt: Sequence[int]
    id: int
    limit: int = 0
    begun: Sequence[int] = ()
    logprobs: Sequence[float] = ()
    kept: np.ndarray | None = None
    steps: int = 1
    hold: Hold = Hold.NEVER
    greedy: bool = False
    draws: bool = True
    cached: int = -1

    @property
    def ids(self) -> list[int]:
        """What is prefilled."""
        return [] if self.cached >= 0 else [*self.prompt, *self.begun]


@dataclasses.dataclass(frozen=True)
class Branch:
    """A row that begins behind all tokens of a row that is held, which it has for its own.

    Attributes:
      row: its number, that of a row that has ended or was never sampled, on the same device; `of` itself goes on.
      of: the row that is held.
      id: the number that names its random key: that of `of` goes on as if it had never stopped.
      limit: tokens of its response at most, those of `of` included; 0: as many as any may have.
      steps, hold, greedy: as in `Queue`.
    """

    row: int
    of: int
    id: int
    limit: int = 0
    steps: int = 1
    hold: Hold = Hold.NEVER
    greedy: bool = False


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

    def device(self, row: int) -> int:
        """Which device has a row."""
        return row // (self.shape.rows // self.devices)

    def portions(self, rows: Sequence[Row]) -> list[list[Row]]:
        """The rows in portions whose different prompts one call takes."""
        found: list[list[Row]] = [[]]
        texts: list[set[tuple[Any, ...]]] = [set() for _ in range(self.devices)]
        for row in rows:
            own, text = texts[self.device(row.row)], self._text(row)
            if not row.ids:
                found[-1].append(row)
                continue
            if text not in own and len(own) == self.at_once:
                found.append([])
                texts = [set() for _ in range(self.devices)]
                own = texts[self.device(row.row)]
            own.add(text)
            found[-1].append(row)
        return [some for some in found if some]

    def added(
        self,
        queue: Queue,
        is_open: np.ndarray,
        reads: np.ndarray,
        lengths: np.ndarray,
        rows: Sequence[Row],
        record: Record | None,
        held: np.ndarray | None = None,
        release: Sequence[int] = (),
    ) -> Added:
        """Inputs that let the rows begin, whose prompts one call takes.

        Args:
          queue: all rows, on the host; `is_open`: those that decode or wait; `reads`: those that may yet begin.
          lengths: of the prompts in all places.
          record: empty, to be filled with what rows begin with; None: none may begin with tokens of its response.
          held: bool[N], the rows that are held; None: none can be.
          release: rows that are not held any more, where the shape has `turns`.

        Raises:
          ValueError: a row has not ended or is held, another one may begin behind what it was, no place is free for
            its prompt, or it goes on and is not held.
        """
        shape, count = self.shape, self.devices * self.at_once
        tokens, length = np.zeros((count, shape.entry_width), np.int32), np.zeros(count, np.int32)
        place, begins = np.full(count, np.iinfo(np.int32).max, np.int32), np.zeros(shape.rows, bool)
        after: Any = jax.tree.map(np.array, queue)
        lengths, free = lengths.copy(), self._free(queue, reads)
        for device, places in enumerate(free):
            lengths[[device * self.places + own for own in places]] = 0
        given: dict[tuple[int, tuple[Any, ...]], int] = {}
        nothing = np.zeros(shape.rows, bool)
        read = nothing if held is None else self.read_rows(queue, reads)
        held = nothing if held is None else held & ~np.isin(np.arange(shape.rows), release)
        if release:
            after.hold[list(release)] = Hold.NEVER
        now = _Now(is_open.copy(), held, read)
        for row in rows:
            device, text, ids = self.device(row.row), self._text(row), row.ids
            now.refuse(row.row, itself=not ids)
            if ids and (device, text) not in given:
                if self._shares(row) and not free[device]:
                    raise ValueError(f"row {row.row}: device {device} has no free place for its prompt")
                at = device * self.at_once + sum(d == device for d, _ in given)
                given[device, text] = own = free[device].pop(0) if self._shares(row) else self.own_place(row.row)
                tokens[at, shape.entry_width - len(ids) :], length[at], place[at] = ids, len(ids), own
                if self._shares(row):
                    lengths[device * self.places + own] = len(ids)
            begins[row.row] = now.is_open[row.row] = True
            self._asked(after, row, given[device, text] if ids else self._cached(now, queue, row))
            if record is not None:
                after.start[row.row] = len(row.begun) if ids else row.cached
                _fill(record, row)
                if not row.draws:
                    record.length[row.row] = len(row.begun)
            elif row.begun:
                raise ValueError("rows begin with tokens of their response only where the shape is resumed")
        return Added((tokens, length, place, after, begins, record), after, lengths)

    def _shares(self, row: Row) -> bool:
        """Whether a row's place may be that of others: no row goes on in such a one, or is held there."""
        return row.draws and not self.shape.turns

    def _text(self, row: Row) -> tuple[Any, ...]:
        """What a row begins with, and where its response does: rows with the same share a place."""
        text = (len(row.begun), *row.prompt, *row.begun)
        return text if self._shares(row) else (row.row, *text)

    def _cached(self, now: "_Now", queue: Queue, row: Row) -> int:
        """The place of what a row goes on behind."""
        if now.held[row.row]:
            return self.own_place(row.row)
        if row.cached or not self.shape.turns:
            raise ValueError(f"row {row.row} is not held: it does not go on")
        return int(queue.prompt[row.row])

    def branched(
        self,
        queue: Queue,
        is_open: np.ndarray,
        reads: np.ndarray,
        held: np.ndarray,
        gone: np.ndarray,
        length: np.ndarray,
        rows: Sequence[Branch],
    ) -> Added:
        """Inputs that let rows begin behind others.

        Args:
          gone: bool[N], the rows that are not held any more once these have begun.
          length: int32[N], tokens of the responses that ended; the others as of `added`.

        Raises:
          ValueError: a row has not ended or is held, the row that it shall begin behind is not held or on another
            device, or another one may begin behind what it was.
        """
        each = self.shape.rows // self.devices
        of, begins = np.zeros(self.shape.rows, np.int32), np.zeros(self.shape.rows, bool)
        after: Any = jax.tree.map(np.array, queue)
        now = _Now(is_open.copy(), held & ~gone, self.read_rows(queue, reads))
        for row in rows:
            now.refuse(row.row, itself=row.row == row.of)
            if not held[row.of] or (begins[row.of] and row.of != row.row):
                raise ValueError(f"row {row.of} is not held: nothing begins behind it")
            if self.device(row.of) != self.device(row.row):
                raise ValueError(f"row {row.row} is on another device than row {row.of}, behind which it shall begin")
            if row.limit and row.limit <= length[row.of]:
                raise ValueError(f"row {row.row}: a limit of {row.limit} tokens, but it begins behind {length[row.of]}")
            of[row.row], begins[row.row], now.is_open[row.row], now.read[row.of] = row.of % each, True, True, True
            self._asked(after, row, self.own_place(row.of))
            after.start[row.row] = length[row.of]
        return Added((after, begins, of), after, length)

    def _asked(self, queue: Any, row: Row | Branch, place: int) -> None:
        """Puts to the queue what a row asks for."""
        limit = min(row.limit or self.shape.new_tokens, self.shape.new_tokens)
        if isinstance(row, Row) and not row.draws:
            limit = 0
        queue.prompt[row.row], queue.id[row.row], queue.limit[row.row] = place, row.id, limit
        if queue.given is not None and isinstance(row, Row):
            queue.given[row.row], queue.hold[row.row] = len(row.begun), row.hold
        elif queue.steps is not None:
            queue.steps[row.row], queue.hold[row.row], queue.greedy[row.row] = row.steps, row.hold, row.greedy
        elif row.hold or limit == 0:
            raise ValueError(f"row {row.row} cannot be held: the shape has not `holds`")

    def own_place(self, row: int) -> int:
        """The place of what a row has come to, on its device."""
        return self.places + row % (self.shape.rows // self.devices)

    def read_rows(self, queue: Queue, reads: np.ndarray) -> np.ndarray:
        """bool[N], the rows behind which others begin that may yet do so."""
        each = self.shape.rows // self.devices
        rows = np.flatnonzero(reads & (queue.prompt >= self.places))
        read = np.zeros(self.shape.rows, bool)
        read[rows // each * each + queue.prompt[rows] - self.places] = True
        return read

    def _free(self, queue: Queue, reads: np.ndarray) -> list[list[int]]:
        """On each device the places of prompts that no row reads."""
        by_device = zip(np.split(queue.prompt, self.devices), np.split(reads, self.devices), strict=True)
        read = [set(prompt[rows].tolist()) for prompt, rows in by_device]
        return [[place for place in range(self.places) if place not in own] for own in read]


@dataclasses.dataclass(frozen=True)
class _Now:
    """bool[N] each: the rows that decode or wait, those that are held, and those behind which others may yet begin."""

    is_open: np.ndarray
    held: np.ndarray
    read: np.ndarray

    def refuse(self, row: int, itself: bool = False) -> None:
        """ValueError where a row cannot begin anew; `itself`: it goes on."""
        if self.is_open[row]:
            raise ValueError(f"row {row} has not ended")
        if self.held[row] and not itself:
            raise ValueError(f"row {row} is held: release it first")
        if self.read[row]:
            raise ValueError(f"row {row}: others may yet begin behind what it was")


def _fill(record: Any, row: Row) -> None:
    count = len(row.begun)
    record.tokens[row.row, :count], record.logprobs[row.row, :count] = row.begun, row.logprobs
    if record.kept is not None and count:
        record.kept[row.row, :count] = row.kept
