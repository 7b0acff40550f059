"""Packs responses of many lengths into rows of one length, so that passes do not compute on padding.

The place of each response is computed on the device, from the lengths of the rollout: first fit, the longest
first, which needs at most 11/9 of the fewest rows (and 6/9 of one) [Dosa 2007]. The packed rows go through a model a
few at a time, in a loop that turns as often as there are rows: the cost follows the tokens, nothing is recompiled,
and one micro-batch bounds the memory.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from stepjax.kept import Kept
from stepjax.parallel import constrain
from stepjax.trajectory import Trajectory

Carry = TypeVar("Carry")


@dataclasses.dataclass(frozen=True)
class PackingShape:
    """Sizes of a packing. `width`: tokens of a packed row; `rows`: packed rows of a micro-batch."""

    width: int
    rows: int

    @classmethod
    def of(cls, count: int, longest: int, *, row_tokens: int, micro_tokens: int, devices: int) -> "PackingShape":
        """For `count` responses of `longest` tokens with their prompts.

        `row_tokens`: of a packed row, 0 for `longest`. `micro_tokens`: of a micro-batch on a device, 0 for an eighth of
        what all the responses could have; one row a device is the least.
        """
        width = max(row_tokens, longest)
        most = -(-count // devices)
        each = micro_tokens // width if micro_tokens else -(-most // 8)
        return cls(width, min(max(each, 1), most) * devices)

    def turns(self, count: int) -> int:
        """Micro-batches that `count` responses take at most."""
        return -(-count // self.rows)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Packing:
    """The places of the tokens of m rows of a trajectory.

    Attributes:
      row: int32[M, R, L], the trajectory's row at each place of M micro-batches of R packed rows of L tokens; −1: none.
      column: int32[M, R, L], its column there.
      segment: int32[M, R, L], 1, 2, … for the responses that share a packed row, 0 for padding.
      place: int32[m], where each row begins, as a number among M · R · L places.
      count: int32[], micro-batches that are not empty.
    """

    row: Array
    column: Array
    segment: Array
    place: Array
    count: Array


def first_fit(lengths: Int[Array, " m"], width: int) -> tuple[Int[Array, " m"], Int[Array, " m"]]:
    """The bin of each length and where it begins there; the longest are placed first, each in the first bin with room.

    Lengths are at most `width`; length 0 takes no room.
    """
    m = lengths.shape[0]

    def put(room: Array, length: Array) -> tuple[Array, tuple[Array, Array]]:
        bin = jnp.argmax(room >= length)
        return room.at[bin].add(-length), (bin.astype(jnp.int32), width - room[bin])

    order = jnp.argsort(-lengths, stable=True)
    _, placed = jax.lax.scan(put, jnp.full(m, width, jnp.int32), lengths[order])
    bin, begin = (jnp.zeros(m, jnp.int32).at[order].set(x) for x in placed)
    return bin, begin


def pack(rows: Trajectory, chosen: Int[Array, " m"], shape: PackingShape) -> Packing:
    """Packs the rows `chosen` of a trajectory, prompts and responses, without their padding."""
    m, width = chosen.shape[0], shape.width
    first = (rows.prompt_width - rows.prompt_length)[chosen]
    lengths = (rows.prompt_length + rows.response_length)[chosen]
    turns = shape.turns(m)
    bin, begin = first_fit(lengths, width)
    place = bin * width + begin
    total = turns * shape.rows * width
    some = lengths > 0
    # Each row marks its first place; what follows belongs to the mark that came last, as far as its row is long.
    marks = jnp.full(total, -1, jnp.int32).at[jnp.where(some, place, total)].set(jnp.arange(m), mode="drop")
    marks = marks.reshape(-1, width)
    at = jnp.arange(width, dtype=jnp.int32)[None]
    start = jax.lax.cummax(jnp.where(marks >= 0, at, -1), axis=1)
    owner = jnp.take_along_axis(marks, jnp.maximum(start, 0), axis=1)
    safe = jnp.maximum(owner, 0)
    inside = (start >= 0) & (at - start < lengths[safe])
    number = jnp.cumsum(marks >= 0, axis=1, dtype=jnp.int32)
    grid = (turns, shape.rows, width)
    used = jnp.max(jnp.where(some, bin, -1)) + 1

    def laid_out(x: Array, padding: int) -> Array:
        return constrain(jnp.where(inside, x, padding).reshape(grid), None, "batch")

    return Packing(
        row=laid_out(chosen[safe], -1),
        column=laid_out(first[safe] + at - start, 0),
        segment=laid_out(number, 0),
        place=place,
        count=-(-used // shape.rows),
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PackedRows:
    """A micro-batch as models read it, `[R, L]` each.

    Attributes:
      tokens, positions, segments: int32; segment 0 is padding.
      mask: bool, the response tokens that the policy chose.
      columns: further numbers per token, by name; values outside of the mask are not read.
      kept: what the sampler kept, as in `Trajectory`.
    """

    tokens: Int[Array, "R L"]
    positions: Int[Array, "R L"]
    segments: Int[Array, "R L"]
    mask: Bool[Array, "R L"]
    columns: dict[str, Array]
    kept: Kept | None = None


def micro_batch(rows: Trajectory, packing: Packing, i: Array, columns: dict[str, Array]) -> PackedRows:
    """Micro-batch i of a packing, with `columns`, `[B, T]` each."""
    row, column, segments = (
        jax.lax.dynamic_index_in_dim(x, i, keepdims=False) for x in (packing.row, packing.column, packing.segment)
    )
    there = jnp.maximum(row, 0)

    def take(x: Array) -> Array:
        return constrain(x[there, column], "batch", "time")

    return PackedRows(
        tokens=jnp.where(segments > 0, take(rows.tokens), 0),
        positions=jnp.where(segments > 0, take(rows.positions), 0),
        segments=segments,
        mask=take(rows.mask) & (segments > 0),
        columns={name: take(x) for name, x in columns.items()},
        kept=jax.tree.map(take, rows.kept),
    )


def over_micro_batches(packing: Packing, body: Callable[[Array, Carry], Carry], start: Carry) -> Carry:
    """`body(i, carry)` for each micro-batch that is not empty."""
    return jax.lax.fori_loop(0, packing.count, body, start)


def unpacked(packed: Array, packing: Packing, rows: Trajectory) -> Array:
    """Numbers `[M, R, L, …]` at packed places, back in the columns of all rows, `[B, T, …]`; 0 on padding.

    `packing` holds all rows, in order.
    """
    first = rows.prompt_width - rows.prompt_length[:, None]
    place = packing.place[:, None] + rows.columns - first
    flat = packed.reshape(-1, *packed.shape[3:])
    found = flat[jnp.clip(place, 0, flat.shape[0] - 1)]
    inside = rows.segments > 0
    return jnp.where(inside.reshape(*inside.shape, *[1] * (found.ndim - 2)), found, 0)


def buffers(like: Any, packing: Packing) -> Any:
    """Zeros for the outputs of the micro-batches, `[M, R, L, …]`; `like`: the shape and dtype of one output."""
    turns = packing.row.shape[0]
    return jax.tree.map(lambda x: constrain(jnp.zeros((turns, *x.shape), x.dtype), None, "batch"), like)


def put_at(into: Any, i: Array, new: Any) -> Any:
    """Writes the output of micro-batch i into the buffers."""
    return jax.tree.map(lambda x, y: jax.lax.dynamic_update_index_in_dim(x, y.astype(x.dtype), i, 0), into, new)
