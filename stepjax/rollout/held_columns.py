"""Rows that are held where there are no blocks: all their tokens lie in columns, in the place of each row.

The place is filled as a prefill fills it: the tokens end in the last column. So a row that goes on begins as one does
that was prefilled with all that it has. What is held takes the place of what the row began with: room is never short.

All functions work on one device's slots, prompts and rows: nothing here crosses the mesh.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from stepjax.models.cache import KeyValues
from stepjax.rollout.axes import column_axes
from stepjax.rollout.holding import Aside
from stepjax.rollout.slots import Prompts, Slots


def settle_columns(aside: Aside, slots: Slots, prompts: Prompts, *, ring: int) -> tuple[Aside, Slots, Prompts]:
    """Nothing aside: its rows are held, in their places among the prompts. `ring`: columns of the ring."""
    rows, (size, width) = len(slots.waiting), prompts.positions.shape[1:]
    first, axis = prompts.first_of_rows(rows), int(isinstance(prompts.layers, KeyValues))

    def one(carry: tuple[Array, Any]) -> tuple[Array, Any]:
        i, layers = carry
        place = first + aside.row[i]

        def each(into: Array, given: Array, column: int) -> Array:
            row = jax.lax.dynamic_slice_in_dim(given, i, 1, axis)
            new = in_order(row, aside.time[i], aside.start[i], ring, column % row.ndim)
            at = [place // size, *(place % size if a == axis else 0 for a in range(row.ndim))]
            return jax.lax.dynamic_update_slice(into, new[None], at)

        return i + 1, jax.tree.map(each, layers, aside.layers, column_axes(layers))

    start = (jnp.zeros((), jnp.int32), prompts.layers)
    layers = jax.lax.while_loop(lambda carry: carry[0] < aside.count[0], one, start)[1]
    there = jnp.arange(len(aside.row)) < aside.count[0]
    place = jnp.where(there, first + aside.row, jnp.iinfo(jnp.int32).max)
    columns = jnp.arange(width, dtype=jnp.int32) - (width - aside.length[:, None])

    def at_place(into: Array, new: Array) -> Array:
        return into.at[place // size, place % size].set(new.astype(into.dtype), mode="drop")

    assert slots.holds is not None
    prompts = Prompts(
        hidden=at_place(prompts.hidden, aside.hidden),
        layers=layers,
        positions=at_place(prompts.positions, jnp.maximum(columns, 0)),
        segments=at_place(prompts.segments, columns >= 0),
        length=at_place(prompts.length, aside.length),
        stop=None if prompts.stop is None else at_place(prompts.stop, aside.stop),
    )
    holds = slots.holds.at[jnp.where(there, aside.row, rows)].set(True, mode="drop")
    nothing = dataclasses.replace(aside, count=jnp.zeros_like(aside.count))
    return nothing, dataclasses.replace(slots, holds=holds), prompts


def in_order(columns: Array, time: Int[Array, ""], behind: Int[Array, ""], ring: int, axis: int) -> Array:
    """The columns of a slot as a prefill leaves them: the last one holds the response's last token.

    Args:
      columns: those of the prompt, which ends in their last one, and the ring behind them.
      time: tokens of the response, `ring` at most; the next one would stand in column `behind` of the ring.
      axis: of the columns.
    """
    front = columns.shape[axis] - ring
    prompt, turned = jnp.split(columns, [front], axis=axis)
    twice = jnp.concatenate([turned, turned], axis=axis)
    response = jax.lax.dynamic_slice_in_dim(twice, (behind - time) % ring, ring, axis)
    whole = jnp.concatenate([jnp.zeros_like(turned), prompt, response], axis=axis)
    return jax.lax.dynamic_slice_in_dim(whole, time, front + ring, axis)
