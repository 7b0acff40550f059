"""Estimates of the divergence of two policies at sampled tokens.

The mask says which tokens count; the others are replaced before any arithmetic, so that whatever they hold (NaN, too)
reaches neither a value nor a gradient. Inputs of any float dtype, float32 inside.
"""

from typing import Literal

import chex
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

LOG_RATIO_LIMIT = 20.0  # e^20 ≈ 5·10⁸: far outside any trust region, far inside float32


def masked_float32(mask: Bool[Array, "*shape"] | None, *arrays: Float[Array, "*shape"]) -> list[Float[Array, "*shape"]]:
    """The arrays in float32, 0 where the mask is False (no mask: all tokens count), after shape and type checks."""
    chex.assert_equal_shape(arrays)
    chex.assert_type(arrays, float)
    if mask is None:
        return [jnp.asarray(x, jnp.float32) for x in arrays]
    chex.assert_equal_shape([mask, arrays[0]])
    chex.assert_type(mask, bool)
    return [jnp.where(mask, x, 0).astype(jnp.float32) for x in arrays]


def kl_estimate(
    logprobs: Float[Array, "*shape"],
    ref_logprobs: Float[Array, "*shape"],
    kind: Literal["k1", "k2", "k3"] | str,
    *,
    mask: Bool[Array, "*shape"] | None = None,
) -> Float[Array, "*shape"]:
    """KL(π ‖ π_ref) at the sampled tokens: k1 = −x, k2 = x²/2, k3 = e^x − 1 − x [Schulman 2020].

    x = logπ_ref − logπ of token t. k1 and k3 have the KL as their mean; as a loss, k2's gradient is the KL's on
    average, k1's is 0. In k3, x is held to at most 20.
    """
    logprobs, ref_logprobs = masked_float32(mask, logprobs, ref_logprobs)
    x = ref_logprobs - logprobs
    match kind:
        case "k1":
            return -x
        case "k2":
            return 0.5 * jnp.square(x)
        case "k3":
            x = jnp.minimum(x, LOG_RATIO_LIMIT)
            return jnp.expm1(x) - x
    raise ValueError(f'kl estimator {kind!r}: must be "k1", "k2" or "k3"')
