"""The slots of the engine: their state, how the next row takes a finished one's slot, how slots are given up.

All functions work on one device's slots, prompts and rows: nothing here crosses the mesh.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from stepjax.models.cache import Cache, KeyValues


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Pool:
    """Prefilled prompts: n chunks of c prompts of width P.

    Attributes:
      hidden: [n, c, D], the state that predicts each prompt's first response token; where rows begin within their
        prompts, [n, c, P, D], the state behind each column.
      layers: keys and values as in `Cache`, a chunk first.
      positions, segments: int32[n, c, P], as in `Cache`.
    """

    hidden: Array
    layers: KeyValues | tuple[KeyValues, ...]
    positions: Array
    segments: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Queue:
    """The N rows to be sampled. Those with a limit above 0 come before the others.

    Attributes:
      prompt: int32[N], the place of the row's prompt in the pool.
      id: int32[N], the number that names the row's random key.
      limit: int32[N], tokens that it has at most.
      cut: int32[N], tokens at its prompt's end that it does without, fewer than the prompt has; None: all rows begin
        behind their prompts.
    """

    prompt: Array
    id: Array
    limit: Array
    cut: Array | None = None


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
      next: int32[devices], the first row that waits.
      hidden: [S, D], the state that predicts the next token.
      cache: keys and values, prompts in front, the ring behind.
    """

    row: Array
    id: Array
    limit: Array
    time: Array
    prompt_length: Array
    stop: Array
    next: Array
    hidden: Array
    cache: Cache


def wanted(queue: Queue) -> Int[Array, ""]:
    """The number of rows that are to be sampled."""
    return jnp.sum(queue.limit > 0, dtype=jnp.int32)


def refill(slots: Slots, pool: Pool, queue: Queue, ended: Bool[Array, " S"]) -> Slots:
    """Gives each slot that ended the next row of the queue.

    A loop over the slots that take a row: each copies one prompt's keys and values in place.
    """
    rows, size, width = queue.id.shape[0], pool.positions.shape[1], pool.positions.shape[2]
    rank = jnp.cumsum(ended) - 1
    taken = slots.next[0] + rank
    takes = ended & (taken < wanted(queue))
    row = jnp.where(takes, taken, jnp.where(ended, rows, slots.row)).astype(jnp.int32)
    order = jnp.argsort(jnp.where(takes, rank, ended.shape[0]))  # slots that take a row go first
    known = jnp.minimum(row, rows - 1)
    prompt = queue.prompt[known]
    last = None if queue.cut is None else width - 1 - queue.cut[known]  # the column that each row begins behind
    axis = slots.cache.row_axis

    def take(carry: Any) -> Any:
        i, hidden, cache = carry
        slot = order[i]
        chunk, place = prompt[slot] // size, prompt[slot] % size

        def put(into: Array, given: Array, axis: int = 0) -> Array:
            start = [chunk, *(place if a == axis else 0 for a in range(into.ndim))]
            piece = jax.lax.dynamic_slice(
                given, start, (1, *(1 if a == axis else n for a, n in enumerate(given.shape[1:])))
            )[0]
            return jax.lax.dynamic_update_slice(into, piece, [slot if a == axis else 0 for a in range(into.ndim)])

        nothing = jnp.zeros((1, cache.segments.shape[1] - width), jnp.int32)
        segments = put(cache.segments, pool.segments)
        if last is None:
            state = put(hidden, pool.hidden)
        else:
            own = jax.lax.dynamic_slice(segments, (slot, 0), (1, width))
            own = jnp.where(jnp.arange(width) <= last[slot], own, 0)
            segments = jax.lax.dynamic_update_slice(segments, own, (slot, 0))
            state = jax.lax.dynamic_slice(pool.hidden, (chunk, place, last[slot], 0), (1, 1, 1, hidden.shape[1]))
            state = jax.lax.dynamic_update_slice(hidden, state[0, 0], (slot, 0))
        cache = dataclasses.replace(
            cache,
            layers=jax.tree.map(lambda into, given: put(into, given, axis), cache.layers, pool.layers),
            positions=put(cache.positions, pool.positions),
            segments=jax.lax.dynamic_update_slice(segments, nothing, (slot, width)),
        )
        return i + 1, state, cache

    count = jnp.sum(takes)
    start = (jnp.zeros((), jnp.int32), slots.hidden, slots.cache)

    def take_all() -> tuple[Array, Cache]:
        return jax.lax.while_loop(lambda carry: carry[0] < count, take, start)[1:]

    # An accelerator may keep the rows elsewhere in memory for this loop, and copy the cache: not where no row is taken.
    hidden, cache = jax.lax.cond(count > 0, take_all, lambda: start[1:])
    return Slots(
        row=row,
        id=queue.id[known],
        limit=queue.limit[known],
        time=jnp.where(ended, 0, slots.time),
        prompt_length=pool.positions[prompt // size, prompt % size, -1 if last is None else last] + 1,
        stop=jnp.where(ended, 0, slots.stop),
        next=slots.next + jnp.sum(takes, dtype=jnp.int32),
        hidden=hidden,
        cache=cache,
    )


def retire(slots: Slots, ended: Bool[Array, " S"], *, idle: int) -> Slots:
    """Empties each slot that ended, where no row waits; `idle`: the row of an empty one."""
    return dataclasses.replace(slots, row=jnp.where(ended, idle, slots.row))


def shrunk(slots: Slots, size: int, *, idle: int) -> tuple[Slots, Int[Array, " s"]]:
    """The slots that decode, `size` at most, in `size` slots, and where they were; `idle`: the row of an empty one."""
    kept = jnp.argsort(slots.row >= idle, stable=True)[:size].astype(jnp.int32)

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
    return dataclasses.replace(slots, cache=cache, **by_row), kept
