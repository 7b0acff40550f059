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
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Int

from stepjax.kept import Kept
from stepjax.models.read_positions import chunk_turns
from stepjax.parallel import constrain, row_groups, row_parts
from stepjax.row_parts import cut, joined, padded_width
from stepjax.trajectory import Trajectory

Carry = TypeVar("Carry")


@dataclasses.dataclass(frozen=True)
class PackingShape:
    """Sizes of a packing. `width`: tokens of a packed row; `rows`: packed rows of a micro-batch; `parts`: into how many
    parts (`row_parts.py`) each of them is cut; `devices`: over how many groups of devices the rows are divided."""

    width: int
    rows: int
    parts: int = 1
    devices: int = 1

    @classmethod
    def of(
        cls, count: int, longest: int, *, row_tokens: int, micro_tokens: int, devices: int, parts: int = 1
    ) -> "PackingShape":
        """For `count` responses of `longest` tokens with their prompts, on `devices` × `parts` devices.

        `row_tokens`: of a packed row, 0 for `longest`. `micro_tokens`: of a micro-batch on a device, 0 for an eighth of
        what all the responses could have; one row for each of `devices` is the least.
        """
        width = padded_width(max(row_tokens, longest), parts)
        most = -(-count // devices)
        each = micro_tokens * parts // width if micro_tokens else -(-most // 8)
        return cls(width, min(max(each, 1), most) * devices, parts, devices)

    @classmethod
    def on(cls, mesh: Mesh, count: int, longest: int, *, row_tokens: int, micro_tokens: int) -> "PackingShape":
        """`of`, for a pass of training on a mesh."""
        sizes = {"row_tokens": row_tokens, "micro_tokens": micro_tokens}
        return cls.of(count, longest, **sizes, devices=row_groups(mesh), parts=row_parts(mesh))

    def turns(self, count: int) -> int:
        """Micro-batches that `count` responses take at most."""
        return -(-count // self.rows)

    def trips(self, count: int) -> tuple[int, ...]:
        """`turns`, and in each of them those of the loop over positions whose logits are read, where there is one."""
        chunks = chunk_turns(self.width // self.parts)
        return (self.turns(count), chunks) if chunks > 1 else (self.turns(count),)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Packing:
    """The places of the tokens of m rows of a trajectory.

    Attributes:
      row: int32[M, R, L], the trajectory's row at each place of M micro-batches of R packed rows of L tokens; −1: none.
        Where rows are cut, R and L are those of their parts.
      column: int32[M, R, L], its column there.
      segment: int32[M, R, L], 1, 2, … for the responses that share a packed row, 0 for padding.
      more: bool[M, R, L], whether a token of the same response follows.
      place: int32[m], where each row begins, as a number among the places of all packed rows.
      most: int32[M], response tokens that the policy chose, on the device that has most of them in a micro-batch; where
        rows are cut, a bound of it.
      count: int32[], micro-batches that are not empty.
      parts: into how many parts packed rows are cut.
    """

    row: Array
    column: Array
    segment: Array
    more: Array
    place: Array
    most: Array
    count: Array
    parts: int = dataclasses.field(default=1, metadata={"static": True})


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

    def laid_out(x: Array, padding: int | bool) -> Array:
        return constrain(cut(jnp.where(inside, x, padding).reshape(grid), shape.parts, 1), None, "batch")

    return Packing(
        row=laid_out(chosen[safe], -1),
        column=laid_out(first[safe] + at - start, 0),
        segment=laid_out(number, 0),
        more=laid_out(at - start + 1 < lengths[safe], False),
        place=place,
        most=_most_chosen(rows, chosen, bin, shape),
        count=-(-used // shape.rows),
        parts=shape.parts,
    )


def _most_chosen(rows: Trajectory, chosen: Array, bin: Array, shape: PackingShape) -> Array:
    """`Packing.most`, of responses that lie in these bins."""
    turns = shape.turns(chosen.shape[0])
    each = jnp.sum(rows.mask, axis=1, dtype=jnp.int32)[chosen]
    each = jnp.zeros(turns * shape.rows, jnp.int32).at[bin].add(each, mode="drop")
    of_parts = jnp.minimum(each, shape.width // shape.parts).reshape(turns, shape.rows)
    devices = shape.devices if shape.rows % shape.devices == 0 else 1
    return jnp.max(jnp.sum(of_parts.reshape(turns, devices, -1), axis=2), axis=1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PackedRows:
    """A micro-batch as models read it, `[R, L]` each.

    What concerns a token stands at the place before it, where a model has read all that the token depends on: there it
    predicts the token, and there is the value of the state. So no pass has to move a number from place to place, which
    might lie on another device.

    Attributes:
      tokens, positions, segments: int32; segment 0 is padding.
      targets: int32, the next token of the response; 0 where none follows.
      mask: bool, whether the next token is a response token that the policy chose.
      columns: further numbers of the next token, by name; values outside of the mask are not read.
      kept: what the sampler kept, as in `Trajectory`, of the next token.
      most: int32[], that of `Packing`; None: not known.
      parts: into how many parts rows are cut (`row_parts.py`).
    """

    tokens: Int[Array, "R L"]
    positions: Int[Array, "R L"]
    segments: Int[Array, "R L"]
    targets: Int[Array, "R L"]
    mask: Bool[Array, "R L"]
    columns: dict[str, Array]
    kept: Kept | None = None
    most: Array | None = None
    parts: int = dataclasses.field(default=1, metadata={"static": True})

    @classmethod
    def padded(cls, rows: Trajectory, columns: dict[str, Array]) -> "PackedRows":
        """A trajectory's own rows, `columns` of its tokens with them: nothing is packed."""

        def following(x: Array) -> Array:
            return jnp.concatenate([x[:, 1:], jnp.zeros_like(x[:, :1])], axis=1)

        return cls(
            tokens=rows.tokens,
            positions=rows.positions,
            segments=rows.segments,
            targets=following(rows.tokens),
            mask=following(rows.mask),
            columns={name: following(x) for name, x in columns.items()},
            kept=jax.tree.map(following, rows.kept),
        )

    @property
    def read(self) -> tuple[Array, Array, Array]:
        """What models take: tokens, positions and segments."""
        return self.tokens, self.positions, self.segments


def micro_batch(rows: Trajectory, packing: Packing, i: Array, columns: dict[str, Array]) -> PackedRows:
    """Micro-batch i of a packing, with `columns` of the tokens, `[B, T]` each."""
    row, column, segments, more = (
        jax.lax.dynamic_index_in_dim(x, i, keepdims=False)
        for x in (packing.row, packing.column, packing.segment, packing.more)
    )
    there, following = jnp.maximum(row, 0), column + more

    def take(x: Array, column: Array) -> Array:
        return constrain(x[there, column], "batch", "time")

    def ahead(x: Array) -> Array:
        return take(x, following)

    return PackedRows(
        tokens=jnp.where(segments > 0, take(rows.tokens, column), 0),
        positions=jnp.where(segments > 0, take(rows.positions, column), 0),
        segments=segments,
        targets=jnp.where(more, ahead(rows.tokens), 0),
        mask=ahead(rows.mask) & more,
        columns={name: ahead(x) for name, x in columns.items()},
        kept=jax.tree.map(ahead, rows.kept),
        most=packing.most[i],
        parts=packing.parts,
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
    whole = joined(packed, packing.parts, 1)
    flat = whole.reshape(-1, *whole.shape[3:])
    found = flat[jnp.clip(place, 0, flat.shape[0] - 1)]
    inside = rows.segments > 0
    return jnp.where(inside.reshape(*inside.shape, *[1] * (found.ndim - 2)), found, 0)


def of_next_tokens(x: Array) -> Array:
    """Numbers `[B, T, …]` at the places before the tokens that they concern, on these tokens; the first has 0."""
    return jnp.pad(x[:, :-1], ((0, 0), (1, 0), *[(0, 0)] * (x.ndim - 2)))


def buffers(like: Any, packing: Packing) -> Any:
    """Zeros for the outputs of the micro-batches, `[M, R, L, …]`; `like`: the shape and dtype of one output."""
    turns = packing.row.shape[0]
    return jax.tree.map(lambda x: constrain(jnp.zeros((turns, *x.shape), x.dtype), None, "batch"), like)


def put_at(into: Any, i: Array, new: Any) -> Any:
    """Writes the output of micro-batch i into the buffers."""
    return jax.tree.map(lambda x, y: jax.lax.dynamic_update_index_in_dim(x, y.astype(x.dtype), i, 0), into, new)
