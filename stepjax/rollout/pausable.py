"""A rollout that can pause: the host reads which responses ended, rates them, and adds others.

    rollout = PausableRollout(definition, mesh, shape, eos=eos, sampler=sampler)
    ready = rollout.prepare(params)
    state = rollout.start(ready, tokens, length, key, queue)
    while not state.done:
        state = rollout.turn(ready, state, 64)
        ended = state.finished()  # rows that ended since they began, on all hosts alike
        state = rollout.add(ready, state, further)
    trajectory = rollout.rows(state)

Every call but `rows` and `some_rows` takes the state's arrays over (they are donated): go on with the state that it
returns. Nothing is compiled again, whatever the number of steps and of rows that are added. The tokens of a row depend
neither on the turns nor on when it was added.
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
from stepjax.rollout.adding import Branch, Places, Row
from stepjax.rollout.paused import Paused, PausedEngine, Seen
from stepjax.rollout.paused_programs import PausedPrograms
from stepjax.rollout.program import RESUMED_CHUNKS, RolloutShape, decoding_of, on_device
from stepjax.rollout.record import Record
from stepjax.rollout.sampling import Sampler
from stepjax.rollout.slots import Queue
from stepjax.rollout.stops import Stops
from stepjax.trajectory import Trajectory


@dataclasses.dataclass(frozen=True)
class Pause:
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
        added: int = 0,
    ):
        """`added`: prompts that one call of `add` takes on each device; 0: few. Other arguments as of
        `rollout_program`."""
        self.definition, self.mesh, self.shape = definition, mesh, shape
        self.devices = batch_devices(mesh)
        each = on_device(shape, self.devices)
        # Rows may come at any time: the slots stay as many, and a ring has its length from the start.
        shape = dataclasses.replace(shape, halvings=0)
        decoding = decoding_of(shape, mesh, eos=eos, sampler=sampler, stops=stops, record=record)
        self.decoding = dataclasses.replace(decoding, growths=0)
        self.places = each.prompts
        usual = each.chunk if shape.holds else -(-each.prompts // RESUMED_CHUNKS)
        self.added = min(added or usual, self.places)
        added = self.added * self.devices
        engine = PausedEngine(self.decoding, shape.prompt_width, mesh, self.devices, added)
        self.programs = PausedPrograms.make(definition, mesh, shape, engine, gather=gather)
        self.layout = Places(shape, self.devices, self.places, self.added)
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
    ) -> Pause:
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
        return Pause(arrays, seen, queue, length)

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

    def turn(self, ready: Any, state: Pause, steps: int) -> Pause:
        """At most `steps` more steps of all slots; fewer where all rows end before."""
        arrays, seen = self.programs.turn(ready, state.arrays, put(np.int32(steps), replicated(self.mesh)))
        return dataclasses.replace(state, arrays=arrays, seen=seen)

    def empty(self, ready: Any, key: jax.Array) -> Pause:
        """Before any row, all of which are to be added."""
        places, each = self.places * self.devices, np.zeros(self.shape.rows, np.int32)
        given: dict[str, Any] = {"start": each} if self.shape.resumed else {}
        if self.shape.holds:
            given |= {"steps": each, "hold": each, "greedy": each.astype(bool)}
        queue = Queue(each, each, each, **given)  # type: ignore[arg-type]
        texts = np.zeros((places, self.shape.entry_width), np.int32)
        return self.start(ready, texts, np.zeros(places, np.int32), key, queue)

    def add(self, ready: Any, state: Pause, rows: Sequence[Row | Branch], release: Sequence[int] = ()) -> Pause:
        """Lets further rows begin, in the places of rows that have ended; every process gives the same ones.

        `release`: rows that are not held any more once these have begun; these may take their places. Where the shape
        has `turns`, they are not held any more before these begin.

        Raises:
          ValueError: of `Places`; or rows that are held leave no room, some of which must be released first.
        """
        texts = [row for row in rows if isinstance(row, Row)]
        branches = [row for row in rows if isinstance(row, Branch)]
        record = self.no_record() if self.shape.resumed else None
        if texts and release and not self.shape.turns:
            later = {branch.of for branch in branches} - {row.row for row in texts}
            state = self.release(ready, state, [row for row in release if row not in later])
            release = [row for row in release if row in later]
        portions = self.layout.portions(texts)
        gone = release if self.shape.turns else ()
        if gone and (self.decoding.page or not portions):
            portions.insert(0, [])  # what is prefilled then finds their blocks free
        for some in portions:
            held = None if state.read.held is None else np.asarray(state.read.held)
            opened, reads = state.open, self._reads(state)
            inputs = self.layout.added(state.queue, opened, reads, state.length, some, record, held, gone)
            if not self.fits(inputs.lengths):
                raise UserError(self._too_small())
            if held is not None and not self._fit_beside(state, inputs.given[1]):
                raise ValueError("rows that are held leave no room for what others begin with")
            arrays, seen = self.programs.add(ready, state.arrays, *put(inputs.given, self._by_row))
            state, gone = Pause(arrays, seen, inputs.queue, inputs.lengths), ()
        if self.shape.turns or not (branches or release):
            return state
        return self._branched(ready, state, branches, release)

    def release(self, ready: Any, state: Pause, rows: Sequence[int]) -> Pause:
        """Lets rows that are held go: nothing more begins behind them. Those that began go on."""
        return self._branched(ready, state, (), rows)

    def _branched(self, ready: Any, state: Pause, rows: Sequence[Branch], release: Sequence[int]) -> Pause:
        seen = state.read
        if self.programs.branch is None or seen.held is None:
            raise ValueError("rows are held only where the shape has `holds`")
        gone = np.zeros(self.shape.rows, bool)
        gone[list(release)] = True
        inputs = self.layout.branched(
            state.queue, state.open, self._reads(state), np.asarray(seen.held), gone, np.asarray(seen.length), rows
        )
        arrays, after = self.programs.branch(ready, state.arrays, *put((*inputs.given, gone), self._by_row))
        return Pause(arrays, after, inputs.queue, state.length)

    def read_rows(self, state: Pause) -> set[int]:
        """The rows behind which others may yet begin: held or not, they cannot begin anew."""
        return set(np.flatnonzero(self.layout.read_rows(state.queue, self._reads(state))).tolist())

    def _reads(self, state: Pause) -> np.ndarray:
        """bool[N], the rows that may yet begin: those that wait; those that decode, too, where there are blocks, as
        they may be put back."""
        return state.open if self.decoding.page else state.open & np.asarray(state.read.queued)

    def room(self, state: Pause) -> np.ndarray:
        """int[devices], blocks that are left beside the rows that are held, what others begin with, and one row of the
        greatest length. Where it is negative, release rows before the next turn: the others may begin again and again
        and never end. Without blocks room is never short."""
        if state.read.room is None:
            return np.full(self.devices, self.shape.rows * self.shape.entry_width)
        return np.asarray(state.read.room) - self.decoding.own_blocks

    def _fit_beside(self, state: Pause, length: np.ndarray) -> bool:
        """Whether there is room for prompts of these lengths, `[A]`; where the shape has `turns`, for these alone."""
        if not self.decoding.page:
            return True
        blocks = (np.maximum(length, 1) - 1).reshape(self.devices, -1) // self.decoding.page
        room = self.room(state) + (self.decoding.own_blocks if self.shape.turns else 0)
        return bool(np.all(np.sum(blocks, axis=1) <= room))

    def some_rows(self, state: Pause, rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Tokens int32[n, W] and log-probabilities float32[n, W] of some rows' responses, on the host; what stands
        behind their ends means nothing. The state stays whole."""
        size = self.decoding.slots
        padded = np.zeros(-(-max(len(rows), 1) // size) * size, np.int32)
        padded[: len(rows)] = rows
        whole = replicated(self.mesh)
        found = [self.programs.some_rows(state.arrays, put(x, whole)) for x in padded.reshape(-1, size)]
        tokens, logprobs = (np.concatenate(x)[: len(rows)] for x in zip(*fetch(found), strict=True))
        return tokens, logprobs

    def rows(self, state: Pause) -> Trajectory:
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
            by_stop=np.zeros(n, bool) if self.shape.holds else None,  # type: ignore[arg-type]
        )
