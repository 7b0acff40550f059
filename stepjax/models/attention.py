"""Grouped-query attention and the key-value cache of a decode loop."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from stepjax.parallel import constrain


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cache:
    """Keys and values of the tokens so far; every row writes its next token at the same slot.

    Attributes:
      keys, values: [layers, B, kv_heads, S, head_dim], S slots.
      positions: int32[B, S], position of the token in a slot.
      segments: int32[B, S], 0 where the slot holds nothing (also left padding), else the token's segment.
      index: int32[], the next slot to write.
    """

    keys: Float[Array, "L B K S D"]
    values: Float[Array, "L B K S D"]
    positions: Int[Array, "B S"]
    segments: Int[Array, "B S"]
    index: Int[Array, ""]


def empty_cache(layers: int, rows: int, kv_heads: int, slots: int, head_dim: int, dtype: Any) -> Cache:
    # One zeros a field: a shared array could not be donated twice.
    shape = (layers, rows, kv_heads, slots, head_dim)
    return Cache(
        keys=jnp.zeros(shape, dtype),
        values=jnp.zeros(shape, dtype),
        positions=jnp.zeros((rows, slots), jnp.int32),
        segments=jnp.zeros((rows, slots), jnp.int32),
        index=jnp.zeros((), jnp.int32),
    )


def causal_bias(
    query_positions: Int[Array, "B T"],
    query_segments: Int[Array, "B T"],
    key_positions: Int[Array, "B S"],
    key_segments: Int[Array, "B S"],
) -> Float[Array, "B T S"]:
    """0 where a token may look: at tokens of its own segment (0 is padding) that do not come after it; else −1e30."""
    same = query_segments[:, :, None] == key_segments[:, None, :]
    seen = same & (key_segments[:, None, :] > 0) & (key_positions[:, None, :] <= query_positions[:, :, None])
    return jnp.where(seen, 0.0, -1e30)


def attend(
    queries: Float[Array, "B H T D"],
    keys: Float[Array, "B K S D"],
    values: Float[Array, "B K S D"],
    bias: Float[Array, "B T S"],
    *,
    scale: float | None = None,
    cap: float = 0.0,
) -> Float[Array, "B H T D"]:
    """softmax(q·k · scale + bias) v with H / K query heads a key head; scores and sums in float32.

    `scale` is 1 / √D unless given. Where `cap` is not 0, cap · tanh(scores / cap) takes the place of the scores.

    The division by the softmax's sum comes after the product with the values: on D columns instead of S. A row that may
    look nowhere (padding) gives the plain mean of the values: finite, and never read.
    """
    b, heads, t, dim = queries.shape
    kv_heads, slots = keys.shape[1:3]
    # The query heads of a key head stand below each other: one matrix product a key head.
    q = (queries * (dim**-0.5 if scale is None else scale)).reshape(b, kv_heads, heads // kv_heads * t, dim)
    scores = jnp.einsum("bktd,bksd->bkts", q, keys, preferred_element_type=jnp.float32)
    if cap:
        scores = cap * jnp.tanh(scores / cap)
    scores = scores.reshape(b, kv_heads, heads // kv_heads, t, slots) + bias[:, None, None]
    top = jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True))
    weights = jnp.exp(scores - top)
    total = jnp.sum(weights, axis=-1).reshape(b, heads, t)
    weights = weights.reshape(b, kv_heads, -1, slots).astype(values.dtype)
    out = jnp.einsum("bkts,bksd->bktd", weights, values, preferred_element_type=jnp.float32)
    out = out.reshape(b, heads, t, dim) / total[..., None]
    return constrain(out.astype(values.dtype), "batch", "heads", "time", "head_dim")
