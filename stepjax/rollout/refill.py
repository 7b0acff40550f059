"""How the next rows take the slots of those that ended: their numbers, their prompts' last tokens, their blocks.

All functions work on one device's slots, prompts and rows: nothing here crosses the mesh.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from stepjax.models.blocks import work_list
from stepjax.models.cache import Cache
from stepjax.rollout.axes import column_axes
from stepjax.rollout.slots import Held, Prompts, Queue, Slots, retire


def refill(
    slots: Slots,
    prompts: Prompts,
    queue: Queue,
    ended: Bool[Array, " S"],
    begin: Int[Array, ""],
    *,
    ample: bool = True,
    ring: int = 0,
) -> Slots:
    """Gives the slots that ended, and those that are empty, the next rows that wait.

    Args:
      begin: the column of the ring in which a row that begins now writes its first token.
      ample: there are blocks for any rows; else only as many begin as leave each row two blocks to come.
      ring: columns of a ring that takes the first tokens of a response, which are prefilled with its prompt; 0: they
        stay with the prompt.
    """
    # The cache is in no branch: a CPU would copy it in every step.
    small = dataclasses.replace(slots, hidden=None, cache=None)  # type: ignore[arg-type]
    allowed, small = _admitted(small, ended, ample)
    filled = functools.partial(_filled, small, prompts, queue, ended | ~slots.live, allowed, begin)
    nobody = jnp.zeros(ended.shape, jnp.int32), jnp.zeros((), jnp.int32)
    begins = jnp.any(ended) & jnp.any(slots.waiting) & (allowed > 0)
    small, order, count = jax.lax.cond(begins, filled, lambda: (retire(small, ended), *nobody))
    hidden, cache = _with_prompts(slots, prompts, queue, small.row, order, count, begin, ring)
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
    length = prompts.length[prompt // size, prompt % size]
    length = length if queue.cut is None else length - queue.cut[known]
    time, start, left, given = jnp.zeros_like(row), None, None, None
    stop = jnp.zeros_like(row) if prompts.stop is None else prompts.stop[prompt // size, prompt % size]
    if queue.steps is not None:
        assert slots.left is not None
        left = jnp.where(takes, queue.steps[known], slots.left)
    if queue.start is not None:
        assert slots.start is not None
        time = start = jnp.where(takes, queue.start[known], slots.start)
        length = length - start
    if queue.given is not None:
        assert slots.given is not None
        given = jnp.where(takes, queue.given[known], slots.given)
    filled = dataclasses.replace(
        slots,
        row=row,
        id=queue.id[known],
        limit=queue.limit[known],
        time=jnp.where(free, time, slots.time),
        prompt_length=jnp.where(takes, length, slots.prompt_length),
        stop=jnp.where(free, stop, slots.stop),
        waiting=slots.waiting.at[jnp.where(takes, row, rows)].set(False, mode="drop"),
        start=start,
        left=left,
        given=given,
    )
    if slots.held is not None:
        filled = dataclasses.replace(filled, held=_holding(filled, prompts, prompt, takes, begin))
    return filled, jnp.argsort(~takes).astype(jnp.int32), jnp.sum(takes, dtype=jnp.int32)


def _with_prompts(
    slots: Slots, prompts: Prompts, queue: Queue, row: Array, order: Array, count: Array, begin: Array, ring: int
) -> tuple[Array, Cache]:
    """Hidden states and cache: a loop over the slots that take a row copies each one's prompt in place."""
    size, width, axis = prompts.positions.shape[1], prompts.positions.shape[2], slots.cache.row_axis

    def take(carry: Any) -> Any:
        i, hidden, cache = carry
        slot = order[i]
        prompt = queue.prompt[row[slot]]
        chunk, place = prompt // size, prompt % size
        columns = kept = None
        if ring:
            assert queue.start is not None
            columns, kept = ring_columns(queue.start[row[slot]], begin, width, ring)

        def put(into: Array, given: Array, axis: int = 0, column: int | None = None) -> Array:
            start = [chunk, *(place if a == axis else 0 for a in range(into.ndim))]
            piece = jax.lax.dynamic_slice(
                given, start, (1, *(1 if a == axis else n for a, n in enumerate(given.shape[1:])))
            )[0]
            if columns is not None and column is not None:
                piece = jnp.take(piece, columns, axis=column, mode="clip")
            return jax.lax.dynamic_update_slice(into, piece, [slot if a == axis else 0 for a in range(into.ndim)])

        segments = put(cache.segments, prompts.segments, column=1)
        if kept is None:
            nothing = jnp.zeros((1, cache.segments.shape[1] - width), jnp.int32)
            segments = jax.lax.dynamic_update_slice(segments, nothing, (slot, width))
        else:
            own = jax.lax.dynamic_slice(segments, (slot, 0), (1, segments.shape[1]))
            segments = jax.lax.dynamic_update_slice(segments, jnp.where(kept, own, 0), (slot, 0))
        if queue.cut is None:
            state = put(hidden, prompts.hidden)
        else:
            last = width - 1 - queue.cut[row[slot]]  # the column that the row begins behind
            own = jax.lax.dynamic_slice(segments, (slot, 0), (1, width))
            segments = jax.lax.dynamic_update_slice(segments, jnp.where(jnp.arange(width) <= last, own, 0), (slot, 0))
            state = jax.lax.dynamic_slice(prompts.hidden, (chunk, place, last, 0), (1, 1, 1, hidden.shape[1]))
            state = jax.lax.dynamic_update_slice(hidden, state[0, 0], (slot, 0))
        cache = dataclasses.replace(
            cache,
            layers=jax.tree.map(
                lambda into, given, column: put(into, given, axis, column),
                cache.layers,
                prompts.layers,
                column_axes(cache.layers),
            ),
            positions=put(cache.positions, prompts.positions, column=1),
            segments=segments,
        )
        return i + 1, state, cache

    start = (jnp.zeros((), jnp.int32), slots.hidden, slots.cache)
    _, hidden, cache = jax.lax.while_loop(lambda carry: carry[0] < count, take, start)
    return hidden, cache


def ring_columns(start: Array, begin: Array, width: int, ring: int) -> tuple[Int[Array, " C"], Bool[Array, " C"]]:
    """Where the columns of a slot come from, of a pool of `width` columns in which a prompt and the `start` first
    tokens of its response end in the last one; and which of them hold a token, if that of the pool does.

    The response's tokens go to the ring, to the columns that they would have if the row had been there all the time
    and wrote its next token in column `begin`.
    """
    front = width - ring
    number = jnp.arange(width, dtype=jnp.int32)
    behind = (number - front - begin) % ring
    inside = number < front
    return jnp.where(inside, number + ring - start, front + behind), inside | (behind >= ring - start)


def _holding(slots: Slots, prompts: Prompts, prompt: Array, takes: Bool[Array, " S"], begin: Array) -> Held:
    """The blocks held once the slots that take a row have those of its prompt."""
    held, size = slots.held, prompts.positions.shape[1]
    assert held is not None
    table, shared = held.table, held.shared
    if prompts.table is not None:
        own = prompts.table[prompt // size, prompt % size]
        table = jnp.where(takes[:, None], table.at[:, : own.shape[1]].set(own), table)
        shared = jnp.where(takes, (slots.prefilled - 1) // held.page, shared)
    count = jnp.where(takes, shared, jnp.where(slots.live, held.count, 0))
    started = jnp.where(takes, begin, held.start)
    work = work_list(table, count, shared, started, slots.prefilled, held.page)
    room = held.room - jnp.sum(takes, dtype=jnp.int32)
    return Held(table, count, shared, started, work, room, held.page)
