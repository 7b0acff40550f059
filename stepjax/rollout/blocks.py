"""The blocks of the engine: what becomes of the ring's tokens each time that it is full.

All rows write their tokens in the same column of the ring. When its last column is written, the ring of each row
becomes one more of its blocks, and the ring begins anew: blocks are taken, and given, only there. Which blocks are free
is counted anew each time, from the tables of the rows that decode and the prompts of those that wait, so that a row
that ends frees its blocks by leaving its slot.

All functions work on one device's slots, rows and blocks: nothing here crosses the mesh.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from stepjax.models.blocks import work_list
from stepjax.models.cache import KeyValues
from stepjax.rollout.refill import refill
from stepjax.rollout.slots import Held, Prompts, Queue, Slots, retire

Layers = KeyValues | tuple[KeyValues, ...]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Usage:
    """Of each device at a border; int32[devices] each.

    Attributes:
      blocks: in use.
      tokens: that the rows which decode hold.
      restarted: of rows that were put back.
    """

    blocks: Array
    tokens: Array
    restarted: Array


def references(blocks: int, slots: Slots, prompts: Prompts, queue: Queue) -> Int[Array, " blocks"]:
    """How many rows read each block now, or will; those that are held count as one."""
    held, waiting = slots.held, slots.waiting
    assert held is not None
    there = jnp.arange(held.table.shape[1]) < jnp.where(slots.live, held.count, 0)[:, None]
    found = jnp.zeros(blocks, jnp.int32).at[jnp.where(there, held.table, blocks)].add(1, mode="drop")
    if prompts.table is None:
        return found
    table, shared = prompts.table.reshape(-1, prompts.table.shape[-1]), (prompts.length.reshape(-1) - 1) // held.page
    readers = jnp.zeros(len(table), jnp.int32).at[queue.prompt].add(waiting.astype(jnp.int32))
    if slots.holds is not None:
        first, rows = prompts.first_of_rows(len(waiting)), len(waiting)
        readers = readers.at[first : first + rows].add(slots.holds.astype(jnp.int32))
    there = jnp.arange(table.shape[1]) < shared[:, None]
    return found.at[jnp.where(there, table, blocks)].add(jnp.where(there, readers[:, None], 0), mode="drop")


def put_back(
    time: Int[Array, " S"], needs: Bool[Array, " S"], own: Int[Array, " S"], free: Int[Array, ""]
) -> Bool[Array, " S"]:
    """The rows that go back to the queue so that each other one gets a block: as few as can be, those with the fewest
    tokens first.

    Args:
      needs: which rows need a block.
      own: blocks that a row gives back, and nobody else reads.
      free: blocks that are free.
    """
    order = jnp.argsort(jnp.where(needs, time, jnp.iinfo(jnp.int32).max), stable=True)
    given = jnp.cumsum(jnp.where(needs, own + 1, 0)[order])  # the block that it needed, too
    missing = jnp.sum(needs, dtype=jnp.int32) - free
    gone = jnp.where(missing > 0, 1 + jnp.sum(given < missing), 0)
    return needs & (jnp.argsort(order) < gone)


def turn_ring(
    slots: Slots,
    layers: Layers,
    prompts: Prompts,
    queue: Queue,
    full: Bool[Array, ""],
    *,
    ample: bool,
    anew: bool = False,
) -> tuple[Slots, Layers, Usage]:
    """Where the ring is `full`: moves it to blocks, puts rows back where there are too few, lets others begin.

    `anew`: counts the free blocks even where it is not; else a pause between two steps would change which rows begin.
    """
    held = slots.held
    assert held is not None
    axis, live = int(isinstance(layers, KeyValues)), slots.live
    blocks = jax.tree.leaves(layers)[0].shape[axis]
    used = references(blocks, slots, prompts, queue)
    needs = live & (slots.drawn > 0) & full
    back = put_back(slots.drawn, needs, held.count - held.shared, jnp.sum(used == 0, dtype=jnp.int32))
    restarted = jnp.sum(jnp.where(back, slots.drawn, 0), dtype=jnp.int32)
    slots = waiting_again(slots, back)
    needs &= ~back
    used = references(blocks, slots, prompts, queue)
    given = jnp.nonzero(used == 0, size=len(needs), fill_value=blocks)[0][jnp.cumsum(needs) - 1]
    given = jnp.where(needs, given, blocks).astype(jnp.int32)
    layers = _moved(slots, layers, given, prompts.positions.shape[2])
    count = jnp.where(needs, held.count + 1, held.count)
    last = jnp.arange(held.table.shape[1]) == held.count[:, None]
    table = jnp.where(last & needs[:, None], given[:, None], held.table)
    free = jnp.sum(used == 0, dtype=jnp.int32) - jnp.sum(needs, dtype=jnp.int32)
    alive = jnp.where(slots.live, count, 0)
    work = work_list(table, alive, held.shared, held.start, slots.prefilled, held.page)
    room = (free - jnp.sum(slots.live, dtype=jnp.int32))[None]
    room = room if anew else jnp.where(full, room, held.room)
    now = Held(table, count, held.shared, held.start, work, room, held.page)
    front = prompts.positions.shape[2]
    segments = slots.cache.segments
    segments = jnp.where(full & (jnp.arange(segments.shape[1]) >= front), 0, segments)
    slots = dataclasses.replace(slots, held=now, cache=dataclasses.replace(slots.cache, segments=segments))
    usage = Usage(
        blocks=(blocks - free)[None],
        tokens=jnp.sum(jnp.where(slots.live, slots.prompt_length + slots.time, 0), dtype=jnp.int32)[None],
        restarted=restarted[None],
    )
    if not ample:
        # An empty slot ends nothing, but where `full` it may take a row.
        slots = refill(slots, prompts, queue, ~slots.live & full, jnp.zeros((), jnp.int32), ample=False)
    return slots, layers, usage


def waiting_again(slots: Slots, back: Bool[Array, " S"]) -> Slots:
    """With the rows of some slots put back to the queue."""
    waiting = slots.waiting.at[jnp.where(back, slots.row, slots.waiting.shape[0])].set(True, mode="drop")
    return dataclasses.replace(retire(slots, back), waiting=waiting)


def with_free(slots: Slots, missing: Int[Array, ""]) -> Slots:
    """Puts rows back to the queue until so many more blocks are free, as far as they have them."""
    held = slots.held
    assert held is not None
    live = jnp.sum(slots.live, dtype=jnp.int32)
    # `put_back` counts a block that each row needs: here none does.
    return waiting_again(slots, put_back(slots.drawn, slots.live, held.count - held.shared - 1, live - missing))


def blocks_for_prompts(
    slots: Slots, prompts: Prompts, queue: Queue, length: Int[Array, " A"], *, blocks: int, ample: bool
) -> tuple[Slots, Int[Array, "A B"]]:
    """Free blocks for prompts of these lengths, one table each, and the slots without rows in their way."""
    held, most = slots.held, 0 if prompts.table is None else prompts.table.shape[-1]
    assert held is not None
    count = jnp.maximum(length - 1, 0) // held.page
    used = references(blocks, slots, prompts, queue)
    if not ample:
        slots = with_free(slots, jnp.sum(count) - jnp.sum(used == 0, dtype=jnp.int32))
        used = references(blocks, slots, prompts, queue)
    nowhere = jnp.iinfo(jnp.int32).max
    free = jnp.nonzero(used == 0, size=length.shape[0] * most, fill_value=nowhere)[0].astype(jnp.int32)
    number = jnp.arange(most, dtype=jnp.int32)
    place = (jnp.cumsum(count) - count)[:, None] + number
    return slots, jnp.where(number < count[:, None], free[place], nowhere)


def _moved(slots: Slots, layers: Layers, given: Int[Array, " S"], front: int) -> Layers:
    """The blocks with each row's ring in the one `given` to it, if any."""
    stacked = isinstance(layers, KeyValues)

    def put(into: Array, rows: Array, axis: int) -> Array:
        ring = jax.lax.slice_in_dim(rows, front, None, axis=axis)
        return into.at[:, given].set(ring, mode="drop") if stacked else into.at[given].set(ring, mode="drop")

    def each(into: KeyValues, rows: KeyValues) -> KeyValues:
        def scales(into: Any, rows: Any) -> Any:
            return None if into is None else put(into, rows, rows.ndim - 1)

        return KeyValues(
            put(into.keys, rows.keys, rows.keys.ndim - 1),
            put(into.values, rows.values, rows.values.ndim - 2),
            scales(into.key_scales, rows.key_scales),
            scales(into.value_scales, rows.value_scales),
        )

    if isinstance(layers, KeyValues):
        assert isinstance(slots.cache.layers, KeyValues)
        return each(layers, slots.cache.layers)
    assert isinstance(slots.cache.layers, tuple)
    return tuple(each(into, rows) for into, rows in zip(layers, slots.cache.layers, strict=True))
