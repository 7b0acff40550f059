"""The decode loop: every step each slot decodes one token, and rows that end are replaced by waiting ones.

In a step each slot decodes a token. A turn is as many steps as the ring has columns, at most; then its log goes to the
record and, where there are blocks, the ring to these. A stage, of full or of halved slots, is turns.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, PRNGKeyArray

from stepjax.models import LanguageModel
from stepjax.models.cache import Blocks, grown
from stepjax.models.decoder import LayerWeights
from stepjax.parallel import constrain, on_each_device
from stepjax.rollout.blocks import Layers
from stepjax.rollout.decoding import Decoding
from stepjax.rollout.environment import Replies
from stepjax.rollout.holding import Aside
from stepjax.rollout.local import Local
from stepjax.rollout.noise import fold_in
from stepjax.rollout.progress import Progress, Steps
from stepjax.rollout.record import Log, Occupancy, Record
from stepjax.rollout.slots import Held, Prompts, Queue, Slots


class DecodeLoop:
    """Decodes the rows of a queue, whose prompts are prefilled.

    Attributes:
      width: columns of the prompts' last tokens; the ring of `ring` columns lies behind them.
      turn: steps of a turn, at most.
      idle: the row of an empty slot: the number of rows of a device.
      nowhere: the place for an empty slot's tokens: the number of places of all rows.
    """

    def __init__(
        self,
        model: LanguageModel,
        decoding: Decoding,
        key: PRNGKeyArray,
        queue: Queue,
        prompts: Prompts,
        *,
        devices: int,
        mesh: Mesh | None,
        weights: LayerWeights | None = None,
    ):
        """`weights`: the trunk's `split_weights`, where they are made already."""
        d = decoding
        assert queue.start is None or d.tool is None, "a tool would not know the first tokens"
        self.model, self.decoding, self.key = model, decoding, key
        self.queue, self.prompts = queue, prompts
        self.devices, self.mesh = devices, mesh
        # Where responses may come with tokens, the prompts' columns hold them too; a ring takes them over.
        rolled = d.ring if queue.start is not None and not d.page else 0
        self.width, self.ring = prompts.positions.shape[-1] - rolled, d.ring
        self.turn = d.turn(queue.id.shape[0])
        self.idle = queue.id.shape[0] // devices
        self.nowhere = self.idle * d.new_tokens
        self.form = d.kept_form(model.trunk.config.vocab)
        self._empty = self._empty_slots()
        self._local = Local(d, mesh, queue, prompts, self._empty, rolled)
        self._aside = Aside.nothing(self._empty, devices) if d.holds else None
        self._weights = model.trunk.split_weights() if weights is None else weights

    def run(self, layers: Layers | None) -> tuple[Record, Occupancy]:
        """Decodes all rows. `layers`: the blocks, in which there may be prompts; None: there are none."""
        sizes = self.decoding.sizes(self.devices)
        now = self.begin(layers)
        for number, size in enumerate(sizes):
            # Slots are reduced when no row waits any more.
            least = sizes[number + 1] if number + 1 < len(sizes) else 0
            if number:
                now = self._reduced(now, size)
            # None does from the start where each has a slot, and none comes back where there are blocks for all.
            waits = not self.decoding.ample or (number == 0 and self.queue.id.shape[0] > self.decoding.slots)
            unfinished = functools.partial(self._unfinished, least=least)
            for columns in self.decoding.rings() if number == 0 else [self.ring]:
                cache = grown(now.slots.cache, self.width + columns)
                now = dataclasses.replace(now, slots=dataclasses.replace(now.slots, cache=cache))
                now = jax.lax.while_loop(
                    unfinished, functools.partial(self._turn, unfinished=unfinished, waits=waits), now
                )
        return now.record, now.occupancy

    def some(self, now: Progress, steps: Array) -> Progress:
        """`steps` more steps, fewer where all rows end before; the slots are not reduced."""
        end = now.t + steps

        def unfinished(now: Progress | Steps) -> Array:
            return (now.t < end) & self._unfinished(now, least=0)

        return jax.lax.while_loop(unfinished, functools.partial(self._turn, unfinished=unfinished, waits=True), now)

    def filled(self, now: Progress) -> Progress:
        """With rows that wait in the slots that are empty."""
        slots, layers, prompts = now.slots, now.layers, self.prompts if now.prompts is None else now.prompts
        if layers is not None:
            slots, layers, _ = self._local.turn_ring(slots, layers, prompts, now.t < 0, anew=True)
        slots = self._local.fill(slots, prompts, slots.row >= self.idle, now.t % self.ring)
        return dataclasses.replace(now, slots=slots, layers=layers)

    def begin(self, layers: Layers | None, record: Record | None = None) -> Progress:
        """Before the first step. `record`: of the first tokens of responses, and of those that ended before."""
        d = self.decoding
        reply = None if d.tool is None else Replies.none(d.slots, d.new_tokens, d.tool.reply_tokens)
        if record is None:
            record = Record.empty(
                self.queue.id.shape[0], d.new_tokens, tool=d.tool is not None, form=self.form, by_stop=d.holds
            )
        record = jax.tree.map(lambda x: constrain(x, "batch"), record)
        prompts, none = self.prompts if d.holds else None, Occupancy.none()
        now = Progress(jnp.zeros((), jnp.int32), self._empty, layers, record, reply, none, self._aside, prompts)
        return self.filled(now)

    def _reduced(self, now: Progress, size: int) -> Progress:
        """The rows that decode in `size` slots."""
        slots, kept = self._local.shrunk(now.slots, size // self.devices)
        reply = now.reply
        if reply is not None:
            take = on_each_device(lambda r, k: jax.tree.map(lambda x: x[k], r), self.mesh, (0, 0), 0)
            reply = take(reply, kept)
        return dataclasses.replace(now, slots=slots, reply=reply)

    def _unfinished(self, now: Progress | Steps, least: int) -> Array:
        """Whether on any device more than `least` rows decode, or any waits; and the ring has room for a step."""
        live = jnp.sum((now.slots.row < self.idle).reshape(self.devices, -1), axis=1)
        goes_on = jnp.any(live > least // self.devices) | jnp.any(now.slots.waiting)
        columns = now.slots.cache.segments.shape[1] - self.width
        return goes_on if columns == self.ring else goes_on & (now.t < columns)

    def _turn(self, now: Progress, unfinished: Callable[[Progress | Steps], Array], waits: bool) -> Progress:
        """Steps until the ring is full, or the stage finished; `waits`: whether rows may wait for a slot."""
        first = now.t // self.turn * self.turn
        prompts, size = self.prompts if now.prompts is None else now.prompts, now.slots.row.shape[0]
        told = now.record.by_stop is not None
        log = Log.empty(self.turn, size, self.nowhere, tool=now.reply is not None, form=self.form, by_stop=told)

        def goes_on(steps: Steps) -> Array:
            more = (steps.t < first + self.turn) & unfinished(steps)
            return more if steps.aside is None else more & ~steps.aside.full(size, self.devices)

        steps = jax.lax.while_loop(
            goes_on,
            lambda steps: self._step(steps, now.layers, prompts, now.record.tokens, first, waits),
            Steps(now.t, now.slots, log, now.reply, now.occupancy, now.aside),
        )
        log_at = jax.tree.map(lambda _: 1, log)
        write = on_each_device(lambda record, log: record.write(log), self.mesh, (0, log_at), 0)
        now = dataclasses.replace(
            now,
            t=steps.t,
            slots=steps.slots,
            record=write(now.record, steps.log),
            reply=steps.reply,
            occupancy=steps.occupancy,
            aside=steps.aside,
        )
        if now.aside is not None:
            assert now.prompts is not None
            aside, slots, layers, found = self._local.settled(now.aside, now.slots, now.layers, now.prompts)
            now = dataclasses.replace(now, aside=aside, slots=slots, layers=layers, prompts=found)
        if now.layers is None:
            return now
        prompts = self.prompts if now.prompts is None else now.prompts
        slots, layers, usage = self._local.turn_ring(now.slots, now.layers, prompts, now.t % self.ring == 0)
        occupancy = now.occupancy.using(usage.blocks * self.ring, usage.tokens, usage.restarted)
        return dataclasses.replace(now, slots=slots, layers=layers, occupancy=occupancy)

    def _step(
        self, now: Steps, layers: Layers | None, prompts: Prompts, tokens: Array, first: Array, waits: bool
    ) -> Steps:
        """One token of each slot's row: sampled, written by the environment or read; then its hidden state.

        `tokens`: of the record, which holds those that are read."""
        d, t, slots, reply = self.decoding, now.t, now.slots, now.reply
        live = slots.row < self.idle
        reads = None if slots.given is None else live & (slots.time < slots.given)
        occupancy = now.occupancy.after(live, jnp.any(slots.waiting), reads)
        logits = constrain(self.model.logits(slots.hidden), "batch", "vocab")
        keys = fold_in(fold_in(self.key, slots.id), slots.time)
        token, logprob, kept = d.sampler.draw(
            keys, logits, time=slots.time, eos=d.eos, form=self.form, greedy=self._local.greedy(slots)
        )
        own = live
        if reply is not None:
            reply = dataclasses.replace(reply, left=jnp.where(slots.time == 0, 0, reply.left))  # of a row put back
            own = live & (reply.left == 0)
            token = jnp.where(own, token, reply.waiting[:, 0])
        if reads is not None:
            own &= ~reads
            token = jnp.where(reads, self._local.read(tokens, slots), token)
            kept = None if kept is None else jnp.where(reads[:, None], jnp.zeros((), kept.dtype), kept)
        token = jnp.where(live, token, 0)
        stopped = own & jnp.isin(token, jnp.asarray(d.eos, jnp.int32))
        automaton, left, by_stop = slots.stop, slots.left, jnp.zeros_like(stopped)
        if d.stops is not None:
            automaton, hit = d.stops.advance(slots.stop, token)
            hit &= own
            if left is not None:
                left = left - hit
                hit &= left == 0
            by_stop = hit & ~stopped
            stopped |= by_stop
        ended = stopped | (live & (slots.time + 1 >= slots.limit))
        line = Log(
            place=jnp.where(live, slots.row * d.new_tokens + slots.time, self.nowhere),
            tokens=token,
            logprobs=jnp.where(own, logprob, 0.0),
            env_tokens=None if reply is None else live & ~own,
            ended=ended,
            stopped=stopped,
            kept=kept,
            by_stop=None if now.log.by_stop is None else by_stop,
        )
        if reply is not None:
            assert d.tool is not None
            reply = reply.after(d.tool, self.mesh, token, slots.time, own & ~ended, ended)
        blocks = None if layers is None or slots.held is None else Blocks(layers, slots.held.work)
        cache = dataclasses.replace(slots.cache, index=self.width + t % self.ring, blocks=blocks)
        position = slots.prompt_length + slots.time
        hidden, cache = self.model.trunk.extend(
            token[:, None], position[:, None], live.astype(jnp.int32)[:, None], cache, weights=self._weights
        )
        cache = dataclasses.replace(cache, blocks=None)
        slots = dataclasses.replace(
            slots, time=slots.time + live, stop=automaton, left=left, hidden=hidden[:, 0], cache=cache
        )
        aside = now.aside
        if aside is not None:
            aside, ended = self._local.put_aside(aside, slots, ended, by_stop, (t + 1) % self.ring)
        if waits:
            slots = self._local.fill(slots, prompts, ended, (t + 1) % self.ring)
        else:
            slots = self._local.retire(slots, ended)
        return Steps(t + 1, slots, now.log.write(t - first, line), reply, occupancy, aside)

    def _empty_slots(self) -> Slots:
        d, config = self.decoding, self.model.trunk.config
        nothing = jnp.zeros(d.slots, jnp.int32)
        held = None
        if d.page:
            shared = 0 if self.prompts.table is None else self.prompts.table.shape[-1]
            held = Held.nothing(d.slots, shared + d.own_blocks, self.devices, d.page)
        return Slots(
            row=jnp.full(d.slots, self.idle, jnp.int32),
            id=nothing,
            limit=nothing,
            time=nothing,
            prompt_length=nothing,
            stop=nothing,
            waiting=self.queue.limit > 0,
            hidden=jnp.zeros((d.slots, config.width), config.dtype),
            cache=self.model.trunk.empty_cache(d.slots, self.width + d.rings()[0]),
            held=held,
            start=None if self.queue.start is None else nothing,
            left=None if self.queue.steps is None else nothing,
            given=None if self.queue.given is None else nothing,
            holds=jnp.zeros(self.queue.id.shape[0], bool) if d.holds else None,
        )
