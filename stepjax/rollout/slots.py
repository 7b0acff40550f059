"""The slots of the engine: their state, how the next row takes a finished one's slot, how slots are given up.

All functions work on one device's slots, prompts and rows: nothing here crosses the mesh.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from stepjax.models.blocks import work_list
from stepjax.models.cache import Cache, KeyValues, WorkList


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Prompts:
    """Prefilled prompts: n chunks of c prompts.

    Attributes:
      hidden: [n, c, D], the state that predicts each prompt's first response token.
      layers: keys and values as in `Cache`, a chunk first, of each prompt's last tokens.
      positions, segments: int32[n, c, F], as in `Cache`.
      length: int32[n, c].
      table: int32[n, c, B], the blocks of the tokens before these; None: there are none.
    """

    hidden: Array
    layers: KeyValues | tuple[KeyValues, ...]
    positions: Array
    segments: Array
    length: Array
    table: Array | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Queue:
    """The N rows to be sampled.

    Attributes:
      prompt: int32[N], the place of the row's prompt among the prompts.
      id: int32[N], the number that names the row's random key.
      limit: int32[N], tokens that it has at most; 0: it is not sampled.
    """

    prompt: Array
    id: Array
    limit: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Held:
    """The blocks that S rows hold.

    Attributes:
      table: int32[S, B], their numbers.
      count: int32[S], how many they are.
      shared: int32[S], how many of these, the first ones, are the prompt's.
      start: int32[S], the slot of the row's first response token in its first own block.
      work: what the rows attend to.
      room: int32[devices], blocks that are free beyond one for each row that decodes.
      page: tokens of a block, static.
    """

    table: Int[Array, "S B"]
    count: Int[Array, " S"]
    shared: Int[Array, " S"]
    start: Int[Array, " S"]
    work: WorkList
    room: Int[Array, " devices"]
    page: int = dataclasses.field(metadata={"static": True})

    @classmethod
    def nothing(cls, slots: int, most: int, devices: int, page: int) -> "Held":
        zeros = jnp.zeros(slots, jnp.int32)
        table = jnp.zeros((slots // devices, most), jnp.int32)
        none = zeros[: slots // devices]
        work = work_list(table, none, none, none, none, page)
        whole = WorkList(*(jnp.tile(x, devices) for x in (work.row, work.block, work.first, work.position, work.count)))
        return cls(jnp.tile(table, (devices, 1)), zeros, zeros, zeros, whole, jnp.zeros(devices, jnp.int32), page)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Slots:
    """State of the decoding. S slots; rows are numbered within the devices of their slot.

    Attributes:
      row: int32[S], the row in each slot; the number of rows where there is none.
      id, limit: int32[S], the row's, as in `Queue`.
      time: int32[S], tokens that it has so far.
      prompt_length: int32[S].
      stop: int32[S], the state of the automaton that may stop it.
      waiting: bool[N], the rows that wait for a slot.
      hidden: [S, D], the state that predicts the next token.
      cache: keys and values: the prompts' last tokens in front, the ring behind.
      held: the tokens before these; None: there are none.
    """

    row: Array
    id: Array
    limit: Array
    time: Array
    prompt_length: Array
    stop: Array
    waiting: Array
    hidden: Array
    cache: Cache
    held: Held | None = None

    @property
    def live(self) -> Bool[Array, " S"]:
        """Which of one device's slots decode."""
        return self.row < self.waiting.shape[0]


def refill(
    slots: Slots, prompts: Prompts, queue: Queue, ended: Bool[Array, " S"], begin: Int[Array, ""], *, ample: bool = True
) -> Slots:
    """Gives the slots that ended, and those that are empty, the next rows that wait.

    Args:
      begin: the column of the ring in which a row that begins now writes its first token.
      ample: there are blocks for any rows; else only as many begin as leave each row two blocks to come.
    """
    # The cache is in no branch: a CPU would copy it in every step.
    small = dataclasses.replace(slots, hidden=None, cache=None)  # type: ignore[arg-type]
    allowed, small = _admitted(small, ended, ample)
    filled = functools.partial(_filled, small, prompts, queue, ended | ~slots.live, allowed, begin)
    nobody = jnp.zeros(ended.shape, jnp.int32), jnp.zeros((), jnp.int32)
    begins = jnp.any(ended) & jnp.any(slots.waiting) & (allowed > 0)
    small, order, count = jax.lax.cond(begins, filled, lambda: (retire(small, ended), *nobody))
    hidden, cache = _with_prompts(slots, prompts, queue, small.row, order, count)
    return dataclasses.replace(small, hidden=hidden, cache=cache)


def _admitted(slots: Slots, ended: Bool[Array, " S"], ample: bool) -> tuple[Array, Slots]:
    """How many rows may begin, and the slots with the blocks of those that ended free again."""
    held = slots.held
    if held is None or ample:
        return jnp.asarray(ended.shape[0], jnp.int32), slots
    given_up = jnp.sum(jnp.where(ended & slots.live, held.count - held.shared + 1, 0), dtype=jnp.int32)
    room = held.room + given_up
    live = jnp.sum(slots.live & ~ended, dtype=jnp.int32)
    allowed = jnp.maximum((room[0] - live) // 2, live == 0)
    return allowed, dataclasses.replace(slots, held=dataclasses.replace(held, room=room))


def _filled(
    slots: Slots, prompts: Prompts, queue: Queue, free: Bool[Array, " S"], allowed: Array, begin: Array
) -> tuple[Slots, Int[Array, " S"], Int[Array, ""]]:
    """The slots but for hidden states and cache; those that take a row, first in an order of all, and their number."""
    rows, size = queue.id.shape[0], prompts.positions.shape[1]
    rank = jnp.cumsum(free) - 1
    first = jnp.nonzero(slots.waiting, size=free.shape[0], fill_value=rows)[0].astype(jnp.int32)
    taken = first[jnp.maximum(rank, 0)]
    takes = free & (rank < allowed) & (taken < rows)
    row = jnp.where(takes, taken, jnp.where(free, rows, slots.row))
    known = jnp.minimum(row, rows - 1)
    prompt = queue.prompt[known]
    filled = dataclasses.replace(
        slots,
        row=row,
        id=queue.id[known],
        limit=queue.limit[known],
        time=jnp.where(free, 0, slots.time),
        prompt_length=jnp.where(takes, prompts.length[prompt // size, prompt % size], slots.prompt_length),
        stop=jnp.where(free, 0, slots.stop),
        waiting=slots.waiting.at[jnp.where(takes, row, rows)].set(False, mode="drop"),
    )
    if slots.held is not None:
        filled = dataclasses.replace(filled, held=_holding(filled, prompts, prompt, takes, begin))
    return filled, jnp.argsort(~takes).astype(jnp.int32), jnp.sum(takes, dtype=jnp.int32)


def _with_prompts(
    slots: Slots, prompts: Prompts, queue: Queue, row: Array, order: Array, count: Array
) -> tuple[Array, Cache]:
    """Hidden states and cache: a loop over the slots that take a row copies each one's prompt in place."""
    size, width, axis = prompts.positions.shape[1], prompts.positions.shape[2], slots.cache.row_axis

    def take(carry: Any) -> Any:
        i, hidden, cache = carry
        slot = order[i]
        prompt = queue.prompt[row[slot]]
        chunk, place = prompt // size, prompt % size

        def put(into: Array, given: Array, axis: int = 0) -> Array:
            start = [chunk, *(place if a == axis else 0 for a in range(into.ndim))]
            piece = jax.lax.dynamic_slice(
                given, start, (1, *(1 if a == axis else n for a, n in enumerate(given.shape[1:])))
            )[0]
            return jax.lax.dynamic_update_slice(into, piece, [slot if a == axis else 0 for a in range(into.ndim)])

        nothing = jnp.zeros((1, cache.segments.shape[1] - width), jnp.int32)
        cache = dataclasses.replace(
            cache,
            layers=jax.tree.map(lambda into, given: put(into, given, axis), cache.layers, prompts.layers),
            positions=put(cache.positions, prompts.positions),
            segments=jax.lax.dynamic_update_slice(put(cache.segments, prompts.segments), nothing, (slot, width)),
        )
        return i + 1, put(hidden, prompts.hidden), cache

    start = (jnp.zeros((), jnp.int32), slots.hidden, slots.cache)
    _, hidden, cache = jax.lax.while_loop(lambda carry: carry[0] < count, take, start)
    return hidden, cache


def _holding(slots: Slots, prompts: Prompts, prompt: Array, takes: Bool[Array, " S"], begin: Array) -> Held:
    """The blocks held once the slots that take a row have those of its prompt."""
    held, size = slots.held, prompts.positions.shape[1]
    assert held is not None
    table, shared = held.table, held.shared
    if prompts.table is not None:
        own = prompts.table[prompt // size, prompt % size]
        table = jnp.where(takes[:, None], table.at[:, : own.shape[1]].set(own), table)
        shared = jnp.where(takes, (slots.prompt_length - 1) // held.page, shared)
    count = jnp.where(takes, shared, jnp.where(slots.live, held.count, 0))
    started = jnp.where(takes, begin, held.start)
    work = work_list(table, count, shared, started, slots.prompt_length, held.page)
    room = held.room - jnp.sum(takes, dtype=jnp.int32)
    return Held(table, count, shared, started, work, room, held.page)


def retire(slots: Slots, ended: Bool[Array, " S"]) -> Slots:
    """Empties each slot that ended."""
    return dataclasses.replace(slots, row=jnp.where(ended, slots.waiting.shape[0], slots.row))


def shrunk(slots: Slots, size: int) -> tuple[Slots, Int[Array, " s"]]:
    """The slots that decode, `size` at most, in `size` slots, and where they were."""
    kept = jnp.argsort(~slots.live, stable=True)[:size].astype(jnp.int32)

    def rows(x: Array, axis: int = 0) -> Array:
        return jnp.take(x, kept, axis=axis)

    cache = slots.cache
    cache = dataclasses.replace(
        cache,
        layers=jax.tree.map(lambda x: rows(x, cache.row_axis), cache.layers),
        positions=rows(cache.positions),
        segments=rows(cache.segments),
    )
    names = ("row", "id", "limit", "time", "prompt_length", "stop", "hidden")
    by_row: dict[str, Any] = {name: rows(getattr(slots, name)) for name in names}
    if (held := slots.held) is not None:
        table, count, shared, start = (rows(x) for x in (held.table, held.count, held.shared, held.start))
        count = jnp.where(by_row["row"] < slots.waiting.shape[0], count, 0)
        work = work_list(table, count, shared, start, by_row["prompt_length"], held.page)
        by_row["held"] = Held(table, count, shared, start, work, held.room, held.page)
    return dataclasses.replace(slots, cache=cache, **by_row), kept
