"""Numbers of some positions only: those that a loss or a score reads, side by side, in chunks.

The output matrix is the widest of a decoder, and what it says behind a prompt or on padding is read by no one. The
positions that are read are gathered, on each device its own, and a loop turns as often as they fill chunks. Shapes are
those of all positions, so that nothing is compiled again.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Bool, Float, Int

from stepjax.models.backends import platform_in_context
from stepjax.parallel import RULES, constrain, partition_spec

Piece = Callable[..., tuple[Array, ...]]
Product = Callable[[Any, Float[Array, "G C D"]], Float[Array, "G C V"]]


CHUNK = 128
"""Positions of a row whose logits exist at a time, at least."""

LOGIT_BYTES = 256 << 20
"""Of a device's logits that exist at a time, in float32, where more than `CHUNK` positions have fewer."""


def chunk_for(rows: int, vocab: int) -> int:
    """Positions of a row whose logits exist at a time; `rows`: of the batch on all devices.

    A CPU is fastest with few, which its caches hold. Elsewhere each chunk gathers the output matrix over the mesh and
    sums its gradient there: they are as few as `LOGIT_BYTES` allow.
    """
    if platform_in_context() == "cpu":
        return CHUNK
    mesh = jax.sharding.get_abstract_mesh()

    def own(whole: int, name: str) -> int:
        return whole if mesh.empty else -(-whole // math.prod(mesh.shape[axis] for axis in RULES[name]))

    a_position = own(rows, "batch") * own(vocab, "vocab") * 4
    return max(LOGIT_BYTES // a_position // CHUNK, 1) * CHUNK


def chunk_turns(positions: int, chunk: int = CHUNK) -> int:
    """The most turns of the loop for rows of so many positions; without a loop, where one chunk holds them, 1."""
    return -(-positions // chunk)


def most_read(read: Bool[Array, "R L"]) -> Int[Array, ""]:
    """The positions that are read on the device that reads most."""
    return jnp.max(jnp.sum(_on_devices(read), axis=1, dtype=jnp.int32))


def over_read(
    product: Product,
    piece: Piece,
    weights: Array,
    hidden: Float[Array, "R L D"],
    rest: Any,
    read: Bool[Array, "R L"],
    most: Int[Array, ""],
    *,
    chunk: int,
) -> tuple[Float[Array, "R L"], ...]:
    """`piece(product(weights, hidden), rest)`, float32 arrays `[G, C]`, at the positions of `read`; 0 elsewhere.

    Gradients are those of `weights` and `hidden`. For them the products are kept where they are no larger than the
    weights; otherwise they are computed again.

    Args:
      product: linear in each of its arguments.
      rest: further arrays `[R, L, …]`, integers or truths.
      most: of `most_read`, or more.
      chunk: positions of each row that a turn takes, C = chunk × rows of a device.
    """
    rows, length = read.shape
    here = _on_devices(read)
    groups, count = here.shape
    size = chunk * (rows // groups)
    pad = -count % size
    # The order is stable: a device's neighbours stay neighbours.
    order = jnp.argsort(~here, axis=1, stable=True)
    seen = jnp.cumsum(here, axis=1, dtype=jnp.int32)
    place = jnp.where(here, seen - 1, 0)

    def gathered(x: Array) -> Array:
        found = jax.vmap(lambda x, order: x[order])(_on_devices(x), order)
        return constrain(jnp.pad(found, ((0, 0), (0, pad), *[(0, 0)] * (found.ndim - 2))), "batch")

    packed, others = gathered(hidden), jax.tree.map(gathered, rest)
    outputs = _looped((product, piece), size, weights, packed, others, -(-most // size))

    def back(x: Array) -> Array:
        found = jnp.where(here, jnp.take_along_axis(x, place, axis=1), 0.0)
        return constrain(found.reshape(rows, length), "batch", "time")

    return tuple(back(x) for x in outputs)


def _on_devices(x: Array) -> Array:
    """Rows `[R, L, …]` as the positions of each device, `[G, R / G · L, …]`."""
    mesh = jax.sharding.get_abstract_mesh()
    groups = 1
    if not mesh.empty:
        entries = [e if isinstance(e, tuple) else (e,) for e in partition_spec(("batch",), x.shape, mesh)]
        groups = int(np.prod([mesh.shape[axis] for names in entries for axis in names if axis is not None]))
    return constrain(x.reshape(groups, -1, *x.shape[2:]), "batch")


def _cut(tree: Any, i: Array, size: int) -> Any:
    return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, i * size, size, axis=1), tree)


# A loop that ends by its data has no derivative of its own; its backward pass is another such loop.
@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _looped(
    parts: tuple[Product, Piece], size: int, weights: Array, hidden: Array, rest: Any, turns: Array
) -> tuple[Array, ...]:
    return _turned(parts, size, weights, hidden, rest, turns, keep=False)[0]


def _turned(
    parts: tuple[Product, Piece], size: int, weights: Array, hidden: Array, rest: Any, turns: Array, *, keep: bool
) -> tuple[tuple[Array, ...], Array | None]:
    """What the pieces give and, to be kept, the products."""
    product, piece = parts

    def one(i: Array) -> tuple[tuple[Array, ...], Array | None]:
        states, others = _cut((hidden, rest), i, size)
        made = product(weights, states)
        return piece(made, others), made if keep else None

    def turn(i: Array, found: Any) -> Any:
        put = functools.partial(jax.lax.dynamic_update_slice_in_dim, start_index=i * size, axis=1)
        return jax.tree.map(put, found, one(i))

    def empty(x: Any) -> Array:
        shape = (*hidden.shape[:2], *x.shape[2:])
        return constrain(jnp.zeros(shape, x.dtype), *("batch", "time", "vocab")[: len(shape)])

    nothing = jax.tree.map(empty, jax.eval_shape(one, jnp.zeros((), jnp.int32)))
    return jax.lax.fori_loop(0, turns, turn, nothing)  # type: ignore[no-any-return]


def _forward(parts: tuple[Product, Piece], size: int, *given: Any) -> tuple[tuple[Array, ...], Any]:
    weights, hidden, rest, turns = jax.tree.map(lambda x: x.value, given)
    keep = hidden.shape[1] <= hidden.shape[2]
    found, made = _turned(parts, size, weights, hidden, rest, turns, keep=keep)
    # Of weights that are not trained (under adapters, say) nobody asks for a gradient, a third of the work. Only
    # arrays may be kept: the backward pass learns it from their structure.
    trained = () if given[0].perturbed else None
    return found, (weights, hidden, rest, turns, made, trained)


def _backward(parts: tuple[Product, Piece], size: int, kept: Any, gradients: tuple[Any, ...]) -> Any:
    product, piece = parts
    weights, hidden, rest, turns, made, trained = kept
    whole = tuple(jnp.zeros(g.shape, g.dtype) if isinstance(g, SymbolicZero) else g for g in gradients)

    def turn(i: Array, found: tuple[Array, ...]) -> tuple[Array, ...]:
        states, others, given, before = _cut((hidden, rest, whole, made), i, size)
        if trained is None:
            again, pull = jax.vjp(functools.partial(product, weights), states)
        else:
            again, pull = jax.vjp(product, weights, states)
        _, pull_piece = jax.vjp(lambda x: piece(x, others), again if made is None else before)
        *of_weights, of_states = pull(*pull_piece(given))
        sums = [x + y for x, y in zip(found[:-1], of_weights, strict=True)]
        return *sums, jax.lax.dynamic_update_slice_in_dim(found[-1], of_states, i * size, 1)

    nothing = [] if trained is None else [jnp.zeros_like(weights)]
    *of_weights, of_hidden = jax.lax.fori_loop(0, turns, turn, (*nothing, constrain(jnp.zeros_like(hidden), "batch")))
    return (of_weights[0] if of_weights else None), of_hidden, None, None


_looped.defvjp(_forward, _backward, symbolic_zeros=True)
