"""Rows that are held when they end: what they have come to becomes the beginning of others.

In the step in which such a row ends, its columns are put aside, and its slot takes the next row at once. When the turn
is over, or no slot's worth of room is left beside, what was put aside is laid out as a prefilled prompt is: full blocks
of consecutive positions, which all rows that begin behind it share, and the last 1 to `page` tokens in columns, which
each of them copies. The blocks before the row's own are those that it began with: nothing of them is copied. (Without
blocks all of it are columns: `held_columns`.)

All functions work on one device's slots, rows and blocks: nothing here crosses the mesh.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from stepjax.models.cache import KeyValues
from stepjax.rollout.axes import column_axes, layer_axes
from stepjax.rollout.blocks import Layers, references, with_free
from stepjax.rollout.slots import Prompts, Queue, Slots

ASIDE = 3
"""Rows that can be put aside before the turn has to end, in slots; all slots may end a row in one step."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Aside:
    """Rows that ended and shall be held; A places for them.

    Attributes:
      count: int32[devices], how many they are.
      row: int32[A], their numbers.
      length: int32[A], all of their tokens, the prompt's included; `time`: those of the response.
      prefilled: int32[A], those that they began with.
      stop: int32[A], the state of the automaton that may stop a row, behind them.
      start: int32[A], the slot's, of its `Held`; without blocks the column of the ring behind the row's last token.
      table, blocks, shared: int32[A, B] and int32[A] each, of the slot's `Held`; None: there are no blocks.
      hidden: [A, D], the state that predicts the next token.
      layers: the slot's columns.
    """

    count: Int[Array, " devices"]
    row: Int[Array, " A"]
    length: Int[Array, " A"]
    time: Int[Array, " A"]
    prefilled: Int[Array, " A"]
    stop: Int[Array, " A"]
    start: Int[Array, " A"]
    hidden: Array
    layers: Layers
    table: Int[Array, "A B"] = None  # type: ignore[assignment]
    blocks: Int[Array, " A"] = None  # type: ignore[assignment]
    shared: Int[Array, " A"] = None  # type: ignore[assignment]

    @classmethod
    def nothing(cls, slots: Slots, devices: int) -> "Aside":
        """With room for `ASIDE` times the slots."""

        def more(x: Array, axis: int = 0) -> Array:
            return jnp.zeros((*x.shape[:axis], x.shape[axis] * ASIDE, *x.shape[axis + 1 :]), x.dtype)

        by_row = {name: more(slots.row) for name in ("row", "length", "time", "prefilled", "stop", "start")}
        if (held := slots.held) is not None:
            by_row |= {"table": more(held.table), "blocks": more(held.count), "shared": more(held.shared)}
        layers = jax.tree.map(lambda x: more(x, slots.cache.row_axis), slots.cache.layers)
        return cls(count=jnp.zeros(devices, jnp.int32), hidden=more(slots.hidden), layers=layers, **by_row)

    @property
    def axes(self) -> Any:
        """Which dimension of each array is divided over the devices."""
        fields = {f.name: None if getattr(self, f.name) is None else 0 for f in dataclasses.fields(self)}
        return Aside(**fields | {"layers": layer_axes(self.layers)})  # type: ignore[arg-type]

    def full(self, slots: int, devices: int) -> Bool[Array, ""]:
        """Whether on any device `slots` rows, of all devices, could not be put aside."""
        return jnp.max(self.count) > (self.row.shape[0] - slots) // devices


def put_aside(aside: Aside, slots: Slots, ended: Bool[Array, " S"], behind: Int[Array, ""]) -> Aside:
    """With the rows of the slots that `ended` and shall be held, before others take these: a loop copies each.

    `behind`: the column of the ring that is written next."""
    held, axis = slots.held, slots.cache.row_axis
    start = jnp.full_like(slots.row, behind) if held is None else held.start
    order, count = jnp.argsort(~ended).astype(jnp.int32), jnp.sum(ended, dtype=jnp.int32)
    first = aside.count[0]

    def one(carry: tuple[Array, Aside]) -> tuple[Array, Aside]:
        i, aside = carry
        slot, at = order[i], first + i

        def put(into: Array, given: Array, axis: int = 0) -> Array:
            piece = jax.lax.dynamic_slice_in_dim(given, slot, 1, axis)
            return jax.lax.dynamic_update_slice_in_dim(into, piece.astype(into.dtype), at, axis)

        blocks: dict[str, Array] = {}
        if held is not None:
            blocks |= {"table": put(aside.table, held.table), "blocks": put(aside.blocks, held.count)}
            blocks["shared"] = put(aside.shared, held.shared)
        return i + 1, Aside(
            count=aside.count,
            row=put(aside.row, slots.row),
            length=put(aside.length, slots.prompt_length + slots.time),
            time=put(aside.time, slots.time),
            prefilled=put(aside.prefilled, slots.prefilled),
            stop=put(aside.stop, slots.stop),
            start=put(aside.start, start),
            hidden=put(aside.hidden, slots.hidden),
            layers=jax.tree.map(lambda into, given: put(into, given, axis), aside.layers, slots.cache.layers),
            **blocks,
        )

    done, aside = jax.lax.while_loop(lambda carry: carry[0] < count, one, (jnp.zeros((), jnp.int32), aside))
    return dataclasses.replace(aside, count=aside.count + done)


def settle(
    aside: Aside, slots: Slots, layers: Layers, prompts: Prompts, queue: Queue
) -> tuple[Aside, Slots, Layers, Prompts]:
    """Nothing aside: its rows are held, in their places among the prompts.

    Rows that decode go back to the queue where there are too few blocks. A row for which there are too few even then
    is not held.
    """
    plan, slots = _plan(aside, slots, layers, prompts, queue)
    held, rows = slots.held, len(slots.waiting)
    first = prompts.first_of_rows(rows)
    layers, columns = _copied(plan, aside, layers, prompts, first)
    prompts = _with_places(plan, aside, prompts, columns, first)
    assert held is not None and slots.holds is not None
    holds = slots.holds.at[jnp.where(plan.fits, aside.row, rows)].set(True, mode="drop")
    held = dataclasses.replace(held, room=held.room - jnp.sum(jnp.where(plan.fits, plan.new, 0), dtype=jnp.int32))
    slots = dataclasses.replace(slots, holds=holds, held=held)
    return dataclasses.replace(aside, count=jnp.zeros_like(aside.count)), slots, layers, prompts


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What is laid out where.

    Attributes:
      fits: bool[A], the rows that will be held.
      new: int32[A], the blocks that each takes.
      table: int32[A, B'], each one's blocks, as among the prompts.
      page: tokens of a block.
    """

    fits: Array
    new: Array
    table: Array
    page: int


def _plan(aside: Aside, slots: Slots, layers: Layers, prompts: Prompts, queue: Queue) -> tuple[_Plan, Slots]:
    held, table = slots.held, prompts.table
    assert held is not None and table is not None
    blocks = jax.tree.leaves(layers)[0].shape[int(isinstance(layers, KeyValues))]
    there = jnp.arange(aside.row.shape[0]) < aside.count[0]
    new = jnp.where(there, (aside.length - 1) // held.page - aside.shared, 0)

    def used(slots: Slots) -> Array:
        """Also the blocks that are copied from."""
        own = jnp.arange(aside.table.shape[1]) < jnp.where(there, aside.blocks, 0)[:, None]
        read = references(blocks, slots, prompts, queue)
        return read.at[jnp.where(own, aside.table, blocks)].add(1, mode="drop")

    slots = with_free(slots, jnp.sum(new) - jnp.sum(used(slots) == 0, dtype=jnp.int32))
    free = used(slots) == 0
    fits = there & (jnp.cumsum(new) <= jnp.sum(free))
    new = jnp.where(fits, new, 0)
    nowhere, most = jnp.iinfo(jnp.int32).max, table.shape[-1]
    given = jnp.nonzero(free, size=blocks, fill_value=nowhere)[0].astype(jnp.int32)
    number = jnp.arange(most, dtype=jnp.int32) - aside.shared[:, None]
    place = jnp.clip((jnp.cumsum(new) - new)[:, None] + number, 0, blocks - 1)
    own = jnp.where(number < new[:, None], given[place], nowhere)
    return _Plan(fits, new, jnp.where(number < 0, aside.table[:, :most], own), held.page), slots


def _window(plan: _Plan, aside: Aside, entry: Array, first: Array) -> Any:
    """A function that cuts the tokens from position `first` on, a block of them, from the columns and blocks of a row
    that was put aside: `(columns of all rows, blocks, axis of rows, axis of columns) -> those of the row`."""
    page, most = plan.page, aside.table.shape[1]
    prefilled, own = aside.prefilled[entry], aside.blocks[entry] - aside.shared[entry]
    in_front = first + jnp.arange(page, dtype=jnp.int32) < prefilled
    # The row's own tokens lie one behind the other in its own blocks, then in the ring: in two of these at most.
    place = jnp.maximum(first, prefilled) - prefilled + aside.start[entry]
    block = place // page
    # All tokens of a window are in a row: slices, not gathers, which are slow where columns come last.
    front_at = page - prefilled + first
    own_at = page + place % page - jnp.maximum(prefilled - first, 0)

    def cut(columns: Array, blocks: Array, axis: int, column: int) -> Array:
        def piece(of: Array, at: Any, size: int, axis: int) -> Array:
            return jax.lax.dynamic_slice_in_dim(of, at, size, axis % of.ndim)

        front, ring = jnp.split(piece(columns, entry, 1, axis), 2, axis=column)

        def own_page(number: Array) -> Array:
            table = aside.table[entry, jnp.clip(aside.shared[entry] + number, 0, most - 1)]
            return jnp.where(number < own, piece(blocks, table, 1, axis), ring)

        behind = jnp.concatenate([front, own_page(block), own_page(block + 1)], axis=column)
        before = piece(jnp.concatenate([front, front], axis=column), front_at, page, column)
        wanted = in_front.reshape(-1, *(1,) * (-1 - column))
        return jnp.where(wanted, before, piece(behind, own_at, page, column))

    return cut


def _copied(plan: _Plan, aside: Aside, layers: Layers, prompts: Prompts, first: int) -> tuple[Layers, Layers]:
    """The blocks, and the columns of the prompts, with those of the rows that were put aside; `first`: the place of
    the first row. A loop copies a block, or the last tokens of a row, each time.

    One loop writes both: where one loop read what the next step writes, a CPU would copy all blocks in between.
    """
    size, page, axis = prompts.positions.shape[1], plan.page, int(isinstance(layers, KeyValues))
    windows = jnp.where(plan.fits, plan.new + 1, 0)
    ends = jnp.cumsum(windows)

    def one(carry: tuple[Array, Layers, Layers]) -> tuple[Array, Layers, Layers]:
        i, layers, places = carry
        entry = jnp.searchsorted(ends, i, side="right").astype(jnp.int32)
        number = i - (ends - windows)[entry]
        is_last = number == plan.new[entry]
        number = aside.shared[entry] + number
        position = jnp.where(is_last, aside.length[entry] - page, number * page)
        cut = _window(plan, aside, entry, position)
        chunk, within = (first + aside.row[entry]) // size, (first + aside.row[entry]) % size
        block = plan.table[entry, jnp.minimum(number, plan.table.shape[1] - 1)]

        def put(into: Array, new: Array, at: list[Any], wanted: Array) -> Array:
            old = jax.lax.dynamic_slice(into, at, new.shape)
            return jax.lax.dynamic_update_slice(into, jnp.where(wanted, new, old), at)

        def each(blocks: Array, places: Array, columns: Array, column: int) -> tuple[Array, Array]:
            new = cut(columns, blocks, axis, column)
            at_block = [block if a == axis else 0 for a in range(new.ndim)]
            at_place = [chunk, *(within if a == axis else 0 for a in range(new.ndim))]
            return put(blocks, new, at_block, ~is_last), put(places, new[None], at_place, is_last)

        both = jax.tree.map(each, layers, places, aside.layers, column_axes(layers))
        is_pair = lambda x: type(x) is tuple and len(x) == 2 and isinstance(x[0], jax.Array)  # noqa: E731
        return i + 1, *(jax.tree.map(lambda x, k=k: x[k], both, is_leaf=is_pair) for k in range(2))

    start = (jnp.zeros((), jnp.int32), layers, prompts.layers)
    return jax.lax.while_loop(lambda carry: carry[0] < ends[-1], one, start)[1:]


def _with_places(plan: _Plan, aside: Aside, prompts: Prompts, columns: Layers, first: int) -> Prompts:
    """The prompts with the rows that were put aside, from place `first` on; `columns`: theirs."""
    size, page = prompts.positions.shape[1], plan.page
    place = jnp.where(plan.fits, first + aside.row, jnp.iinfo(jnp.int32).max)
    positions = aside.length[:, None] - page + jnp.arange(page, dtype=jnp.int32)
    inside = positions >= (aside.length - 1)[:, None] // page * page

    def at_place(into: Array, new: Array) -> Array:
        return into.at[place // size, place % size].set(new.astype(into.dtype), mode="drop")

    assert prompts.table is not None
    return Prompts(
        hidden=at_place(prompts.hidden, aside.hidden),
        layers=columns,
        positions=at_place(prompts.positions, jnp.maximum(positions, 0)),
        segments=at_place(prompts.segments, inside & (positions >= 0)),
        length=at_place(prompts.length, aside.length),
        table=at_place(prompts.table, plan.table),
        stop=None if prompts.stop is None else at_place(prompts.stop, aside.stop),
    )


def room(slots: Slots, prompts: Prompts, queue: Queue, *, blocks: int) -> Int[Array, " 1"]:
    """How many blocks are taken by neither a row that is held nor what a row begins with that decodes or waits."""
    rows = slots.waiting.shape[0]
    waiting = slots.waiting.at[slots.row].set(True, mode="drop")
    nobody = dataclasses.replace(slots, row=jnp.full_like(slots.row, rows), waiting=waiting)
    return jnp.sum(references(blocks, nobody, prompts, queue) == 0, dtype=jnp.int32)[None]


def released(slots: Slots, queue: Queue) -> Slots:
    """Where rows go on behind themselves, those are held no longer whose `Queue.hold` was taken back."""
    if queue.given is None or slots.holds is None or queue.hold is None:
        return slots
    return dataclasses.replace(slots, holds=slots.holds & (queue.hold > 0))


def with_rows(prompts: Prompts, rows: int, devices: int) -> Prompts:
    """With places for what each of a device's `rows` rows comes to, behind the others."""
    chunks = -(-rows * devices // prompts.positions.shape[1])
    return jax.tree.map(lambda x: jnp.concatenate([x, jnp.zeros((chunks, *x.shape[1:]), x.dtype)]), prompts)
