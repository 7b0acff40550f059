"""Long packed rows, cut into parts that lie on the devices of the mesh axis `context`.

A row of L tokens is 2n chunks; part c of n is chunk c and chunk 2n − 1 − c. As token t attends to the t before it,
every part has the same work. Parts are rows of their own, `[n · R, L / n]` in place of `[R, L]`, the first parts of all
rows first: whatever computes token by token needs to know nothing of them. What looks at other tokens of its row
(attention, a shift by one token) does.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from stepjax.errors import UserError
from stepjax.parallel import constrain


def check_width(width: int, parts: int, option: str) -> None:
    """UserError where rows of `width` tokens cannot be cut into so many parts of two chunks."""
    if width % (2 * parts if parts > 1 else 1):
        fitting = -(-width // (2 * parts)) * 2 * parts
        raise UserError(
            f"config.{option}: rows of {width} tokens are not cut into 2 × mesh.context = {2 * parts} chunks; "
            f"use {fitting}"
        )


def padded_width(width: int, parts: int) -> int:
    """The least number of tokens, `width` or more, that can be cut."""
    return width if parts == 1 else -(-width // (2 * parts)) * 2 * parts


def cut(x: Any, parts: int, axis: int = 0) -> Any:
    """Rows `[…, R, L, …]` to their parts, `[…, parts · R, L / parts, …]`; `axis` is that of R.

    Of NumPy arrays it makes NumPy arrays.
    """
    if parts == 1:
        return x
    xp, lead, (rows, length), tail = _sides(x, axis)
    chunks = x.reshape(*lead, rows, 2 * parts, length // (2 * parts), *tail)
    first, last = xp.split(xp.moveaxis(chunks, axis + 1, axis), 2, axis)
    together = xp.stack([first, xp.flip(last, axis)], axis + 2)
    return together.reshape(*lead, parts * rows, length // parts, *tail)


def joined(x: Any, parts: int, axis: int = 0) -> Any:
    """The rows that were `cut`, `[…, R, L, …]`; in a program, every device of `context` then has all of its rows.

    For columns of numbers: hidden states of long rows should not be brought together.
    """
    if parts == 1:
        return x
    xp, lead, (all_parts, length), tail = _sides(x, axis)
    rows = all_parts // parts
    halves = x.reshape(*lead, parts, rows, 2, length // 2, *tail)
    if xp is jnp:
        # One gather of what is cut; the rest is the order of what each device has.
        halves = constrain(halves, *[None] * (axis + 1), "rows")
    first, last = (xp.squeeze(h, axis + 2) for h in xp.split(halves, 2, axis + 2))
    chunks = xp.moveaxis(xp.concatenate([first, xp.flip(last, axis)], axis), axis, axis + 1)
    return chunks.reshape(*lead, rows, parts * length, *tail)


def shifted(x: Array, parts: int, by: int) -> Array:
    """Columns `[R, L]` (their parts) moved by one token, to the right (1) or to the left (−1); 0 where none comes."""
    whole = joined(x, parts)
    moved = jnp.pad(whole[:, :-1], ((0, 0), (1, 0))) if by == 1 else jnp.pad(whole[:, 1:], ((0, 0), (0, 1)))
    return cut(moved, parts) if parts == 1 else constrain(cut(moved, parts), "batch", "time")


def in_order(x: Array, parts: int, axis: int) -> Array:
    """Parts that stand behind each other along `axis`, as a gather over `context` leaves them, in the rows' order."""
    if parts == 1:
        return x
    shape = x.shape
    halves = x.reshape(*shape[:axis], parts, 2, shape[axis] // (2 * parts), *shape[axis + 1 :])
    first, last = (jax.lax.index_in_dim(halves, i, axis + 1, keepdims=False) for i in (0, 1))
    return jnp.concatenate([first, jnp.flip(last, axis)], axis).reshape(shape)


def token_order(length: int, parts: int) -> np.ndarray:
    """The column in its row of each token of the parts, one part after the other: int32[length]."""
    return cut(np.arange(length, dtype=np.int32)[None], parts).reshape(-1)


def _sides(x: Any, axis: int) -> tuple[Any, tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    xp: Any = np if isinstance(x, np.ndarray) else jnp
    return xp, x.shape[:axis], x.shape[axis : axis + 2], x.shape[axis + 2 :]
