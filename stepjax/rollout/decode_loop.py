"""The decode loop: every turn each slot decodes one token, and rows that end are replaced by waiting ones."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, PRNGKeyArray

from stepjax.models import LanguageModel
from stepjax.models.cache import grown
from stepjax.parallel import constrain
from stepjax.rollout.by_device import on_each_device, row_axes
from stepjax.rollout.decoding import Decoding
from stepjax.rollout.environment import Replies
from stepjax.rollout.noise import fold_in
from stepjax.rollout.record import Log, Occupancy
from stepjax.rollout.slots import Pool, Queue, Slots, refill, retire, shrunk, wanted


class Progress(NamedTuple):
    """The state of the loop.

    Attributes:
      t: int32[], turns so far.
      log: of the turns since the slots were halved last.
      reply: the environment's replies that are not written yet; None without an environment.
    """

    t: Array
    slots: Slots
    log: Log
    reply: Replies | None
    occupancy: Occupancy


class DecodeLoop:
    """Decodes the rows of a queue; their prompts are prefilled in a pool.

    Attributes:
      width: columns of the prompts; the ring of `ring` columns lies behind them.
      idle: the row of an empty slot: the number of rows of a device.
      nowhere: the place for an empty slot's tokens: the number of places of all rows.
    """

    def __init__(
        self,
        model: LanguageModel,
        decoding: Decoding,
        key: PRNGKeyArray,
        queue: Queue,
        pool: Pool,
        *,
        devices: int,
        mesh: Mesh | None,
    ):
        self.model, self.decoding, self.key = model, decoding, key
        self.queue, self.pool = queue, pool
        self.devices, self.mesh = devices, mesh
        self.width, self.ring = pool.positions.shape[-1], decoding.rings()[-1]
        self.total = queue.id.shape[0]
        self.idle = self.total // devices
        self.nowhere = self.idle * decoding.new_tokens
        self.form = decoding.kept_form(model.trunk.config.vocab)
        columns = self.width + decoding.rings()[0]
        slots = _empty_slots(model, decoding.slots, columns, devices, idle=self.idle)
        queue_at = Queue(0, 0, 0)  # type: ignore[arg-type]
        self._slots_at, pool_at = row_axes(slots, 0), row_axes(pool, 1)
        self._fill = on_each_device(refill, mesh, (self._slots_at, pool_at, queue_at, 0), self._slots_at)
        self._waiting = on_each_device(lambda s, q: s.next < wanted(q), mesh, (self._slots_at, queue_at), 0)
        self._first = self._fill(slots, pool, queue, jnp.ones(decoding.slots, bool))
        self._weights = model.trunk.split_weights()

    def run(self) -> tuple[tuple[Log, ...], Occupancy]:
        """Decodes all rows; returns the logs of the loops, one per number of slots."""
        d = self.decoding
        sizes, logs = d.sizes(self.devices), []
        now = self._begin()
        for number, size in enumerate(sizes):
            least = sizes[number + 1] if number + 1 < len(sizes) else 0
            if number:
                now = self._halved(now, size)
            # Slots are halved when no row waits any more; and none does from the start where each has a slot.
            turn = functools.partial(self._turn, first=now.t, waits=number == 0 and self.total > d.slots)
            unfinished = functools.partial(self._unfinished, least=least)
            for columns in d.rings() if number == 0 else [self.ring]:
                cache = grown(now.slots.cache, self.width + columns)
                now = now._replace(slots=dataclasses.replace(now.slots, cache=cache))
                now = jax.lax.while_loop(unfinished, turn, now)
            logs.append(now.log)
        return tuple(logs), now.occupancy

    def _begin(self) -> Progress:
        d = self.decoding
        reply = None if d.tool is None else Replies.none(d.slots, d.new_tokens, d.tool.reply_tokens)
        t, occupancy = jnp.zeros((), jnp.int32), Occupancy.none()
        return Progress(t, self._first, self._log(d.steps(self.total), d.slots), reply, occupancy)

    def _log(self, steps: int, slots: int) -> Log:
        return Log.empty(steps, slots, self.nowhere, self.form)

    def _halved(self, now: Progress, size: int) -> Progress:
        """The rows that decode in `size` slots, with a log of their own."""
        give_up = functools.partial(shrunk, size=size // self.devices, idle=self.idle)
        slots, kept = on_each_device(give_up, self.mesh, (self._slots_at,), (self._slots_at, 0))(now.slots)
        reply = now.reply
        if reply is not None:
            take = on_each_device(lambda r, k: jax.tree.map(lambda x: x[k], r), self.mesh, (0, 0), 0)
            reply = take(reply, kept)
        return now._replace(slots=slots, reply=reply, log=self._log(self.decoding.new_tokens, size))

    def _unfinished(self, now: Progress, least: int) -> Array:
        """Whether more than `least` rows decode, or any waits; and the cache has room for another turn."""
        live = jnp.sum((now.slots.row < self.idle).reshape(self.devices, -1), axis=1)
        goes_on = jnp.any(live > least // self.devices) | jnp.any(self._waiting(now.slots, self.queue))
        columns = now.slots.cache.segments.shape[1] - self.width
        return goes_on if columns == self.ring else goes_on & (now.t < columns)

    def _turn(self, now: Progress, first: Array, waits: bool) -> Progress:
        """`first`: the turn at which the log begins; `waits`: whether rows may wait for a slot."""
        live, waiting = now.slots.row < self.idle, jnp.any(self._waiting(now.slots, self.queue))
        occupancy = now.occupancy.after(live, waiting)
        slots, reply, line = self._step(now.t, now.slots, now.reply, waits)
        return Progress(now.t + 1, slots, now.log.write(now.t - first, line), reply, occupancy)

    def _step(self, t: Array, slots: Slots, reply: Replies | None, waits: bool) -> tuple[Slots, Replies | None, Log]:
        """One token of each slot's row: sampled, or written by the environment; then its hidden state."""
        d, live = self.decoding, slots.row < self.idle
        logits = constrain(self.model.logits(slots.hidden), "batch", "vocab")
        keys = fold_in(fold_in(self.key, slots.id), slots.time)
        token, logprob, kept = d.sampler.draw(keys, logits, time=slots.time, eos=d.eos, form=self.form)
        own = live
        if reply is not None:
            own = live & (reply.left == 0)
            token = jnp.where(own, token, reply.waiting[:, 0])
        token = jnp.where(live, token, 0)
        stopped = own & jnp.isin(token, jnp.asarray(d.eos, jnp.int32))
        automaton = slots.stop
        if d.stops is not None:
            automaton, hit = d.stops.advance(slots.stop, token)
            stopped |= own & hit
        ended = stopped | (live & (slots.time + 1 >= slots.limit))
        line = Log(
            place=jnp.where(live, slots.row * d.new_tokens + slots.time, self.nowhere),
            tokens=token,
            logprobs=jnp.where(own, logprob, 0.0),
            env_tokens=live & ~own,
            stopped=stopped,
            kept=kept,
        )
        if reply is not None:
            assert d.tool is not None
            reply = reply.after(d.tool, self.mesh, token, slots.time, own & ~ended, ended)
        cache = dataclasses.replace(slots.cache, index=self.width + t % self.ring)
        position = slots.prompt_length + slots.time
        hidden, cache = self.model.trunk.extend(
            token[:, None], position[:, None], live.astype(jnp.int32)[:, None], cache, weights=self._weights
        )
        slots = dataclasses.replace(slots, time=slots.time + live, stop=automaton, hidden=hidden[:, 0], cache=cache)
        if waits:
            return self._fill(slots, self.pool, self.queue, ended), reply, line
        return retire(slots, ended, idle=self.idle), reply, line


def _empty_slots(model: LanguageModel, slots: int, columns: int, devices: int, *, idle: int) -> Slots:
    nothing = jnp.zeros(slots, jnp.int32)
    config = model.trunk.config
    return Slots(
        row=jnp.full(slots, idle, jnp.int32),
        id=nothing,
        limit=nothing,
        time=nothing,
        prompt_length=nothing,
        stop=nothing,
        next=jnp.zeros(devices, jnp.int32),
        hidden=jnp.zeros((slots, config.width), config.dtype),
        cache=model.trunk.empty_cache(slots, columns),
    )
