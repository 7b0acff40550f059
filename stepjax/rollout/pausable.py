"""A rollout that can pause: the host reads which responses ended, judges them, and adds others.

    rollout = PausableRollout(definition, mesh, shape, eos=eos, sampler=sampler)
    ready = rollout.prepare(params)
    state = rollout.start(ready, tokens, length, key, queue)
    while not state.done:
        state = rollout.turn(ready, state, 64)
        ended = state.finished()  # rows that ended since they began, on all hosts alike
        state = rollout.add(ready, state, further, key…)
    trajectory = rollout.rows(state)

Every call but `rows` takes the state's arrays over (they are donated): go on with the state that it returns. Nothing is
compiled again, whatever the number of steps and of rows that are added. The tokens of a row depend neither on the turns
nor on when it was added.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from stepjax.errors import UserError
from stepjax.models import Definition, LanguageModel
from stepjax.models.definition import Params
from stepjax.parallel import batch_devices, batch_sharding, fetch, put, replicated
from stepjax.rollout.generate import RESUMED_CHUNKS, RolloutShape, decoding_of, on_device
from stepjax.rollout.paused import Paused, PausedEngine, Seen
from stepjax.rollout.paused_programs import PausedPrograms
from stepjax.rollout.record import Record
from stepjax.rollout.sampling import Sampler
from stepjax.rollout.slots import Queue
from stepjax.rollout.stops import Stops
from stepjax.trajectory import Trajectory


@dataclasses.dataclass(frozen=True)
class State:
    """A rollout between two turns.

    Attributes:
      arrays: on the devices.
      seen: what the last call saw, on the devices until it is read.
      queue: the rows, on the host.
      length: int32[Q], tokens of each prefilled prompt, on the host.
    """

    arrays: Paused
    seen: Seen
    queue: Queue
    length: np.ndarray

    @functools.cached_property
    def read(self) -> Seen:
        """`seen` on the host, which waits for the turn to end."""
        found: Seen = fetch(self.seen)
        return found

    @property
    def done(self) -> bool:
        """Whether no row decodes or waits."""
        return not (self.read.decoding or self.read.waiting)

    def finished(self) -> np.ndarray:
        """int[n], the rows whose responses have ended, by themselves or at their limit."""
        return np.flatnonzero(self.read.length > 0)

    @property
    def open(self) -> np.ndarray:
        """bool[N], the rows that decode or wait."""
        return np.asarray((self.queue.limit > 0) & (self.read.length == 0))


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


class PausableRollout:
    """The programs of a rollout that can pause, for given sizes.

    Attributes:
      devices: along the batch; rows and places of prompts are divided over them in order.
      places: prompts that each device keeps.
      added: those that one call of the `add` program takes on each device.
    """

    def __init__(
        self,
        definition: Definition[LanguageModel],
        mesh: Mesh,
        shape: RolloutShape,
        *,
        eos: int | tuple[int, ...],
        sampler: Sampler,
        stops: Stops | None = None,
        gather: bool = True,
        record: bool = False,
    ):
        """Arguments as of `rollout_program`."""
        self.definition, self.mesh, self.shape = definition, mesh, shape
        self.devices = batch_devices(mesh)
        each = on_device(shape, self.devices)
        # Rows may come at any time: the slots stay as many, and a ring has its length from the start.
        shape = dataclasses.replace(shape, halvings=0)
        decoding = decoding_of(shape, mesh, eos=eos, sampler=sampler, stops=stops, record=record)
        self.decoding = dataclasses.replace(decoding, growths=0)
        self.places, self.added = each.prompts, -(-each.prompts // RESUMED_CHUNKS)
        added = self.added * self.devices
        engine = PausedEngine(self.decoding, shape.prompt_width, mesh, self.devices, added)
        self.programs = PausedPrograms.make(definition, mesh, shape, engine, gather=gather)
        self._by_row = batch_sharding(mesh)

    def prepare(self, params: Params) -> Any:
        """The parameters as decoding reads them: gathered over fsdp, and taken apart where it reads them so; made once
        for all turns."""
        return self.programs.prepare(params)

    def start(
        self,
        ready: Any,
        tokens: np.ndarray,
        length: np.ndarray,
        key: jax.Array,
        queue: Queue,
        record: Record | None = None,
    ) -> State:
        """Prefills and lets the first rows begin.

        Args:
          ready: of `prepare`.
          tokens, length, queue: on the host, as `request` makes them: every device's prompts, and the rows.
          key: on the devices.
          record: on the host, where the shape is `resumed`: the tokens that rows begin with, and responses that ended
            before, whose rows have the limit 0.
        """
        if self.shape.resumed and record is None:
            record = self.no_record()
        if not self.fits(length):
            raise UserError(self._too_small())
        texts, lengths, rows, begun = put((tokens, length, queue, record), self._by_row)
        arrays, seen = self.programs.start(ready, texts, lengths, key, rows, begun)
        return State(arrays, seen, queue, length)

    def fits(self, length: np.ndarray) -> bool:
        """Whether the blocks hold prompts of these lengths, `[Q]`, beside one longest response on each device."""
        d = self.decoding
        if not d.page:
            return True
        blocks = np.sum((np.maximum(length, 1) - 1).reshape(self.devices, -1) // d.page, axis=1)
        return bool(np.all(blocks + d.own_blocks <= d.blocks))

    def _too_small(self) -> str:
        return (
            f"config.ppo.cache_tokens: {self.decoding.blocks * self.decoding.page} tokens a device do not hold what "
            "the responses of a round begin with and one response of the greatest length; raise it"
        )

    def turn(self, ready: Any, state: State, steps: int) -> State:
        """At most `steps` more steps of all slots; fewer where all rows end before."""
        arrays, seen = self.programs.turn(ready, state.arrays, put(np.int32(steps), replicated(self.mesh)))
        return dataclasses.replace(state, arrays=arrays, seen=seen)

    def add(self, ready: Any, state: State, rows: Sequence[Row]) -> State:
        """Lets further rows begin, in the places of rows that have ended; every process gives the same ones."""
        for some in self._portions(rows):
            (*inputs, record), queue, length = self._added(state, some)
            if not self.fits(length):
                raise UserError(self._too_small())
            arrays, seen = self.programs.add(ready, state.arrays, *put((*inputs, record), self._by_row))
            state = State(arrays, seen, queue, length)
        return state

    def rows(self, state: State) -> Trajectory:
        """All responses so far, on the devices; those of rows that decode are not finished, of rows that wait empty (or
        what they begin with). The state stays whole."""
        found: Trajectory = self.programs.rows(state.arrays)
        return found

    def no_record(self) -> Record:
        """On the host: no row begins with tokens of its response."""
        n, w, form = self.shape.rows, self.shape.new_tokens, self.programs.form
        return Record(
            tokens=np.zeros((n, w), np.int32),  # type: ignore[arg-type]
            logprobs=np.zeros((n, w), np.float32),  # type: ignore[arg-type]
            env_tokens=None,
            length=np.zeros(n, np.int32),  # type: ignore[arg-type]
            finished=np.zeros(n, bool),  # type: ignore[arg-type]
            kept=None if form is None else np.zeros((n, w, form.words), form.dtype),  # type: ignore[arg-type]
        )

    def _device(self, row: int) -> int:
        return row // (self.shape.rows // self.devices)

    def _portions(self, rows: Sequence[Row]) -> list[list[Row]]:
        """The rows in portions whose different prompts one call takes."""
        found: list[list[Row]] = [[]]
        texts: list[set[tuple[int, ...]]] = [set() for _ in range(self.devices)]
        for row in rows:
            own, text = texts[self._device(row.row)], (*row.prompt, *row.begun)
            if text not in own and len(own) == self.added:
                found.append([])
                texts = [set() for _ in range(self.devices)]
                own = texts[self._device(row.row)]
            own.add(text)
            found[-1].append(row)
        return [some for some in found if some]

    def _added(self, state: State, rows: Sequence[Row]) -> tuple[tuple[Any, ...], Queue, np.ndarray]:
        """Inputs of the `add` program, and the queue and the prompts' lengths behind it. ValueError where a row has not
        ended, or there is no place for its prompt."""
        shape, count = self.shape, self.devices * self.added
        tokens, length = np.zeros((count, shape.entry_width), np.int32), np.zeros(count, np.int32)
        place, begins = np.full(count, self.places, np.int32), np.zeros(shape.rows, bool)
        queue: Queue = jax.tree.map(np.array, state.queue)
        record = self.no_record() if shape.resumed else None
        lengths, free = state.length.copy(), self._free(state)
        for device, places in enumerate(free):
            lengths[[device * self.places + own for own in places]] = 0
        given: dict[tuple[int, tuple[int, ...]], int] = {}
        for row in rows:
            device, text = self._device(row.row), (*row.prompt, *row.begun)
            if state.open[row.row] or begins[row.row]:
                raise ValueError(f"row {row.row} has not ended")
            if (device, text) not in given:
                if not free[device]:
                    raise ValueError(f"row {row.row}: device {device} has no free place for its prompt")
                at = device * self.added + sum(d == device for d, _ in given)
                given[device, text] = own = free[device].pop(0)
                tokens[at, shape.entry_width - len(text) :], length[at], place[at] = text, len(text), own
                lengths[device * self.places + own] = len(text)
            begins[row.row] = True
            limit = min(row.limit or shape.new_tokens, shape.new_tokens)
            queue.prompt[row.row], queue.id[row.row], queue.limit[row.row] = given[device, text], row.id, limit
            if record is not None:
                self._begin(record, queue, row)
            elif row.begun:
                raise ValueError("rows begin with tokens of their response only where the shape is resumed")
        return (tokens, length, place, queue, begins, record), queue, lengths

    def _free(self, state: State) -> list[list[int]]:
        """On each device the places of prompts that no row reads."""
        by_device = zip(np.split(state.queue.prompt, self.devices), np.split(state.open, self.devices), strict=True)
        read = [set(prompt[open_rows].tolist()) for prompt, open_rows in by_device]
        return [[place for place in range(self.places) if place not in own] for own in read]

    def _begin(self, record: Any, queue: Any, row: Row) -> None:
        count = len(row.begun)
        queue.start[row.row] = count
        record.tokens[row.row, :count] = row.begun
        record.logprobs[row.row, :count] = row.logprobs
        if record.kept is not None and count:
            record.kept[row.row, :count] = row.kept
