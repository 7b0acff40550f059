"""The portable attention of long rows: a few queries at a time, so that scores and masks of all pairs never exist."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from stepjax.models.attention import attend, causal_bias
from stepjax.parallel import constrain

PAIRS = 2**22
"""Pairs of a query and a key, of one head, whose scores exist at a time; whole rows of up to 2,048 tokens."""


def query_chunk(queries: int, keys: int) -> int:
    """How many queries are taken at a time; 0: all."""
    return 0 if queries * keys <= PAIRS else max(PAIRS // keys, 1)


def chunked_attention(
    queries: Float[Array, "B H T D"],
    keys: Float[Array, "B K S D"],
    values: Float[Array, "B K S D"],
    positions: Int[Array, "B T"],
    segments: Int[Array, "B T"],
    key_positions: Int[Array, "B S"],
    key_segments: Int[Array, "B S"],
    window: Int[Array, " B"] | None = None,
    *,
    chunk: int,
    scale: float | None = None,
    cap: float = 0.0,
) -> Float[Array, "B H T D"]:
    """`attention.attend` with the `causal_bias` of the columns, `chunk` queries at a time; the backward pass computes
    their scores again.

    `window`: the tokens, that of the query the last of them, among which it sees others; None: all.
    """
    length, dtype = queries.shape[2], keys.dtype
    # Gradients of keys and values are sums over all chunks: those are made in float32.
    k, v = (x.astype(jnp.float32) for x in (keys, values))

    @jax.checkpoint
    def some(q: Array, at: Array, of: Array, k: Array, v: Array) -> Array:
        bias = causal_bias(at, of, key_positions, key_segments)
        if window is not None:
            near = at[:, :, None] - key_positions[:, None, :] < window[:, None, None]
            bias = jnp.where(near, bias, -1e30)
        return attend(q, k.astype(dtype), v.astype(dtype), bias, scale=scale, cap=cap)

    def apart(x: Array, axis: int, *names: str) -> Array:
        pads = [(0, 0)] * x.ndim
        pads[axis] = (0, -length % chunk)
        whole = jnp.pad(x, pads)
        chunks = whole.reshape(*x.shape[:axis], -1, chunk, *x.shape[axis + 1 :])
        return constrain(jnp.moveaxis(chunks, axis, 0), None, *names)

    each = apart(queries, 2, "batch", "heads"), apart(positions, 1, "batch"), apart(segments, 1, "batch")
    out = jnp.moveaxis(jax.lax.map(lambda x: some(*x, k, v), each), 0, 2)
    return out.reshape(*out.shape[:2], -1, out.shape[-1])[:, :, :length]
