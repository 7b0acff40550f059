"""A rollout between two turns: all that goes on in the next one, as arrays that stay on the devices.

Pure functions, meant for jit: `PausableRollout` compiles them. The decode loop is the one of a rollout in one go; here
it ends after a number of steps, and what it carries leaves the program and enters it again.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from stepjax.kept import Kept
from stepjax.models import LanguageModel
from stepjax.models.decoder import LayerWeights
from stepjax.parallel import on_each_device
from stepjax.rollout.axes import QUEUE_AXES, prompt_axes, slot_axes
from stepjax.rollout.blocks import blocks_for_prompts
from stepjax.rollout.decode_loop import DecodeLoop
from stepjax.rollout.decoding import Decoding
from stepjax.rollout.engine import empty_blocks
from stepjax.rollout.holding import released, room, with_rows
from stepjax.rollout.paused_prompts import chosen, numbered, numbers, replaced, states, texts
from stepjax.rollout.prefill import bucket_widths, prefill
from stepjax.rollout.progress import Progress
from stepjax.rollout.record import Occupancy, Record
from stepjax.rollout.slots import Prompts, Queue, Slots
from stepjax.trajectory import Trajectory


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Paused:
    """A rollout between two turns.

    Attributes:
      key: of all rows.
      queue: the rows, those that ended too.
      prompts: prefilled; what no row that waits or decodes reads may be replaced.
      text: int32[N, P], each row's prompt, which ends in the last column.
      text_length: int32[N].
      now: slots, blocks and record.
    """

    key: PRNGKeyArray
    queue: Queue
    prompts: Prompts
    text: Int[Array, "N P"]
    text_length: Int[Array, " N"]
    now: Progress


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Seen:
    """What every host reads after a turn.

    Attributes:
      length: int32[N], tokens of the responses that ended; 0 of the others.
      finished: bool[N], the response ended by itself.
      decoding, waiting: int32[], rows in slots, and rows that wait for one.
      queued: bool[N], the rows that wait for a slot.
      occupancy: the use of slots and cache since the start.
      by_stop: bool[N], the stops ended the response, not an end id (`finished` is True of both); None: that is not told
        apart.
      held: bool[N], others may begin behind the row; None: none can be held.
      room: int32[devices], blocks that neither a row that is held nor what rows begin with takes; None: there are none.
    """

    length: Int[Array, " N"]
    finished: Bool[Array, " N"]
    decoding: Int[Array, ""]
    waiting: Int[Array, ""]
    queued: Bool[Array, " N"]
    occupancy: Occupancy
    by_stop: Bool[Array, " N"] | None = None
    held: Bool[Array, " N"] | None = None
    room: Int[Array, " devices"] | None = None


@dataclasses.dataclass(frozen=True)
class PausedEngine:
    """The slot engine, whose state leaves its programs.

    Attributes:
      prompt_width: P, tokens of the widest prompt.
      mesh: as in `generate_in_slots`.
      devices: along the batch axes of the mesh.
      added: A, prompts that are added at once, on all devices.
    """

    decoding: Decoding
    prompt_width: int
    mesh: Mesh
    devices: int
    added: int

    def start(
        self,
        model: LanguageModel,
        weights: LayerWeights | None,
        tokens: Int[Array, "Q F"],
        length: Int[Array, " Q"],
        key: PRNGKeyArray,
        queue: Queue,
        record: Record | None,
    ) -> tuple[Paused, Seen]:
        """Prefills what rows begin with, and lets the first ones begin. `record`: the tokens among it that are of
        responses, and the responses that ended before; None: there are none."""
        d = self.decoding
        layers = empty_blocks(model, d.blocks * self.devices, d.page) if d.page else None
        widths = sorted({*bucket_widths(tokens.shape[1]), self.prompt_width})
        prompts, layers = prefill(
            model,
            tokens,
            length,
            devices=self.devices,
            chunk=d.prefill_rows,
            widths=widths,
            layers=layers,
            page=d.page,
            mesh=self.mesh,
            stop=states(d.stops, self.mesh, tokens, queue),
        )
        if d.holds:
            prompts = with_rows(prompts, queue.id.shape[0] // self.devices, self.devices)
        now = self._loop(model, weights, key, queue, prompts).begin(layers, record)
        text, text_length = texts(self.mesh, self.prompt_width, tokens, length, queue)
        return self._seen(Paused(key, queue, prompts, text, text_length, now))

    def turn(
        self, model: LanguageModel, weights: LayerWeights | None, state: Paused, steps: Int[Array, ""]
    ) -> tuple[Paused, Seen]:
        """`steps` more steps, fewer where all rows end before."""
        loop = self._loop(model, weights, state.key, state.queue, state.prompts)
        return self._seen(dataclasses.replace(state, now=loop.some(self._now(state), steps)))

    def add(
        self,
        model: LanguageModel,
        weights: LayerWeights | None,
        state: Paused,
        tokens: Int[Array, "A F"],
        length: Int[Array, " A"],
        place: Int[Array, " A"],
        queue: Queue,
        begins: Bool[Array, " N"],
        record: Record | None,
    ) -> tuple[Paused, Seen]:
        """Prefills what further rows begin with, into places of the prompts that no row reads (`place`, counted from
        the device's first one; where there are too many, that of a place behind the last), and lets the rows that
        `begins` names, which had ended, begin as the new queue says."""
        d, now = self.decoding, self._now(state)
        number = numbers(self.mesh, self.devices, state.prompts, place)
        layers, slots, tables = now.layers, released(now.slots, queue), None
        if layers is not None and state.prompts.table is not None:
            slots, tables = self._room(slots, state.prompts, state.queue, length)
        found, layers = prefill(
            model,
            tokens,
            length,
            devices=self.devices,
            chunk=tokens.shape[0],
            widths=sorted({*bucket_widths(tokens.shape[1]), self.prompt_width}),
            layers=layers,
            page=d.page,
            mesh=self.mesh,
            tables=tables,
            stop=states(d.stops, self.mesh, tokens, queue, begins, number),
        )
        at = prompt_axes(state.prompts)
        put = on_each_device(replaced, self.mesh, (at, at, 0), at)
        prompts = put(state.prompts, found, place)
        slots = dataclasses.replace(slots, waiting=slots.waiting | begins & (queue.limit > 0))
        if slots.holds is not None:
            now = dataclasses.replace(now, prompts=prompts)
            # A row that draws nothing is held at once.
            slots = dataclasses.replace(slots, holds=jnp.where(begins, queue.limit == 0, slots.holds))
        kept = now.record if record is None else record

        if record is None:
            kept = dataclasses.replace(kept, length=jnp.zeros_like(kept.length), finished=jnp.zeros_like(kept.finished))
        now = dataclasses.replace(now, layers=layers, slots=slots, record=chosen(begins, kept, now.record))
        now = self._loop(model, weights, state.key, queue, prompts).filled(now)
        by_number = numbered(self.mesh, queue, number)
        added = texts(self.mesh, self.prompt_width, tokens, length, by_number)
        text, text_length = chosen(begins & (by_number.prompt >= 0), added, (state.text, state.text_length))
        return self._seen(Paused(state.key, queue, prompts, text, text_length, now))

    def branch(
        self,
        model: LanguageModel,
        weights: LayerWeights | None,
        state: Paused,
        queue: Queue,
        begins: Bool[Array, " N"],
        of: Int[Array, " N"],
        release: Bool[Array, " N"],
    ) -> tuple[Paused, Seen]:
        """Lets the rows that `begins` names begin behind rows that are held, as the new queue says.

        `of`: which, counted from the device's first one; `release`: rows that are not held any more."""
        now = self._now(state)

        def local(tree: Any, begins: Array, of: Array) -> Any:
            return chosen(begins, jax.tree.map(lambda x: x[of], tree), tree)

        copied = on_each_device(local, self.mesh, (0, 0, 0), 0)
        record, text, text_length = copied((now.record, state.text, state.text_length), begins, of)
        ends: dict[str, Any] = {
            name: jnp.where(begins, jnp.zeros_like(x), x)
            for name in ("length", "finished", "by_stop")
            if (x := getattr(record, name)) is not None
        }
        holds = now.slots.holds
        assert holds is not None
        slots = dataclasses.replace(
            now.slots, waiting=now.slots.waiting | begins & (queue.limit > 0), holds=holds & ~release & ~begins
        )
        now = dataclasses.replace(now, slots=slots, record=dataclasses.replace(record, **ends))
        now = self._loop(model, weights, state.key, queue, state.prompts).filled(now)
        return self._seen(Paused(state.key, queue, state.prompts, text, text_length, now))

    def some_rows(self, state: Paused, rows: Int[Array, " K"]) -> tuple[Array, Array]:
        """Tokens and log-probabilities of some rows' responses so far, `[K, W]` each; what stands behind their ends
        means nothing."""
        return state.now.record.tokens[rows], state.now.record.logprobs[rows]

    def rows(self, state: Paused, vocab: int) -> Trajectory:
        """The responses so far: also of rows that decode, which are not finished; `vocab`: of the model."""
        now, form = state.now, self.decoding.kept_form(vocab)

        def so_far(slots: Slots, length: Array, start: Array) -> Array:
            return jnp.where(length > 0, length, start).at[slots.row].set(slots.time, mode="drop")

        start = jnp.zeros_like(now.record.length) if state.queue.start is None else state.queue.start
        measure = on_each_device(so_far, self.mesh, (slot_axes(now.slots), 0, 0), 0)
        length = measure(now.slots, now.record.length, start)
        found = dataclasses.replace(now.record, length=length).rows()

        def behind_prompt(x: Array) -> Array:
            return jnp.pad(x, ((0, 0), (self.prompt_width, 0), *[(0, 0)] * (x.ndim - 2)))

        return Trajectory(
            tokens=jnp.concatenate([state.text, found.tokens], axis=1),
            prompt_length=state.text_length,
            response_length=length,
            finished=found.finished,
            logprobs=behind_prompt(found.logprobs),
            prompt_width=self.prompt_width,
            env_tokens=None if found.env_tokens is None else behind_prompt(found.env_tokens),
            kept=None if found.kept is None or form is None else Kept(behind_prompt(found.kept), form),
        )

    def _loop(
        self, model: LanguageModel, weights: LayerWeights | None, key: PRNGKeyArray, queue: Queue, prompts: Prompts
    ) -> DecodeLoop:
        return DecodeLoop(
            model, self.decoding, key, queue, prompts, devices=self.devices, mesh=self.mesh, weights=weights
        )

    def _seen(self, state: Paused) -> tuple[Paused, Seen]:
        now, held, room = state.now, None, None
        if now.prompts is not None:
            state = dataclasses.replace(state, prompts=now.prompts, now=dataclasses.replace(now, prompts=None))
            held = now.slots.holds
            room = self._left(now.slots, now.prompts, state.queue) if self.decoding.page else None
        idle = now.record.length.shape[0] // self.devices
        seen = Seen(
            length=now.record.length,
            finished=now.record.finished,
            decoding=jnp.sum(now.slots.row < idle, dtype=jnp.int32),
            waiting=jnp.sum(now.slots.waiting, dtype=jnp.int32),
            queued=now.slots.waiting,
            occupancy=now.occupancy,
            by_stop=now.record.by_stop,
            held=held,
            room=room,
        )
        return state, seen

    def _now(self, state: Paused) -> Progress:
        """What a turn changes, the prompts among it where rows are held."""
        return dataclasses.replace(state.now, prompts=state.prompts) if self.decoding.holds else state.now

    def _left(self, slots: Slots, prompts: Prompts, queue: Queue) -> Array:
        """`Seen.room`."""
        local = functools.partial(room, blocks=self.decoding.blocks)
        return on_each_device(local, self.mesh, (slot_axes(slots), prompt_axes(prompts), QUEUE_AXES), 0)(
            slots, prompts, queue
        )

    def _room(self, slots: Slots, prompts: Prompts, queue: Queue, length: Array) -> tuple[Slots, Array]:
        d, at = self.decoding, slot_axes(slots)

        def local(slots: Slots, prompts: Prompts, queue: Queue, length: Array) -> tuple[Slots, Array]:
            return blocks_for_prompts(slots, prompts, queue, length, blocks=d.blocks, ample=d.ample)

        call = on_each_device(local, self.mesh, (at, prompt_axes(prompts), QUEUE_AXES, 0), (at, 0))
        return call(slots, prompts, queue, length)
