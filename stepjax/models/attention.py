"""Grouped-query attention."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from stepjax.parallel import constrain

Partial = tuple[Float[Array, "B K GT"], Float[Array, "B K GT"], Float[Array, "B K GT D"]]
"""Sums of a softmax over some of the keys: a whole number p, Σ 2^(s − p) and Σ 2^(s − p) v, where s are the scores in
base two. A change of p is exact: the sums do not depend on when it came."""

LOG2E = 1.4426950408889634

LEAST_POWER = -(2.0**20)
"""Of sums over no keys."""


def whole_power(scores: Float[Array, "... S"]) -> Float[Array, "..."]:
    """The least whole number that no score is above; bounded where no key is seen."""
    return jnp.clip(jnp.ceil(jnp.max(scores, axis=-1)), LEAST_POWER, -LEAST_POWER)


def two_to(power: Float[Array, "..."]) -> Float[Array, "..."]:
    """2 to whole numbers that are not positive, exactly; 0 below the least float."""
    bits = (jnp.maximum(power, -127.0).astype(jnp.int32) + 127) << 23
    return jax.lax.bitcast_convert_type(bits, jnp.float32)


def added(sums: Partial, more: Partial) -> Partial:
    """The sums over the keys of both."""
    higher = jnp.maximum(sums[0], more[0])
    change, less = two_to(sums[0] - higher), two_to(more[0] - higher)
    total = sums[1] * change + more[1] * less
    return higher, total, sums[2] * change[..., None] + more[2] * less[..., None]


def causal_bias(
    query_positions: Int[Array, "B T"],
    query_segments: Int[Array, "B T"],
    key_positions: Int[Array, "B S"],
    key_segments: Int[Array, "B S"],
) -> Float[Array, "B T S"]:
    """0 where a token may attend: to tokens of its own segment (0 is padding) that do not come after it; else −1e30."""
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

    The division by the softmax's sum comes after the product with the values: on D columns instead of S. A row without
    keys (padding) gives the plain mean of the values: finite, and never read.
    """

    def score(q: Array) -> Array:
        return jnp.einsum("bktd,bksd->bkts", q, keys, preferred_element_type=jnp.float32)

    def mix(weights: Array) -> Array:
        return jnp.einsum("bkts,bksd->bktd", weights.astype(values.dtype), values, preferred_element_type=jnp.float32)

    return grouped_attention(queries, keys.shape[1], bias, score, mix, scale=scale, cap=cap)


def grouped_attention(
    queries: Float[Array, "B H T D"],
    kv_heads: int,
    bias: Float[Array, "B T S"],
    score: Callable[[Float[Array, "B K GT D"]], Float[Array, "B K GT S"]],
    mix: Callable[[Float[Array, "B K GT S"]], Float[Array, "B K GT D"]],
    *,
    scale: float | None,
    cap: float,
    rest: Callable[[Float[Array, "B K GT D"], Partial], Partial] | None = None,
) -> Float[Array, "B H T D"]:
    """Attention to whatever `score` (q·k) and `mix` (Σ weights · v) know; the weights are not normalised.

    `rest`: adds what lies elsewhere (`blocks.attend_to_blocks`) to these queries' sums.
    """
    b, heads, t, dim = queries.shape
    # The query heads of a key head stand below each other: one matrix product a key head.
    q = (queries * (dim**-0.5 if scale is None else scale)).reshape(b, kv_heads, heads // kv_heads * t, dim)
    scores = score(q)
    slots = scores.shape[-1]
    if cap:
        scores = cap * jnp.tanh(scores / cap)
    scores = scores.reshape(b, kv_heads, heads // kv_heads, t, slots) + bias[:, None, None]
    if rest is not None:
        scores = scores.reshape(b, kv_heads, -1, slots) * LOG2E
        power = whole_power(scores)
        weights = jnp.exp2(scores - power[..., None])
        _, total, out = rest(q, (power, jnp.sum(weights, axis=-1), mix(weights)))
        out = (out / jnp.maximum(total, jnp.finfo(jnp.float32).tiny)[..., None]).reshape(b, heads, t, dim)
        return constrain(out.astype(queries.dtype), "batch", "heads", "time", "head_dim")
    top = jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True))
    weights = jnp.exp(scores - top)
    total = jnp.sum(weights, axis=-1).reshape(b, heads, t)
    out = mix(weights.reshape(b, kv_heads, -1, slots)).reshape(b, heads, t, dim) / total[..., None]
    return constrain(out.astype(queries.dtype), "batch", "heads", "time", "head_dim")
