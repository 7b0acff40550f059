"""The adaptive coefficient of the divergence from the reference [Ziegler 2019, section 2.2]."""

import chex
import jax.numpy as jnp
from jaxtyping import Array, Float

LARGEST_ERROR = 0.2


def adapted_coefficient(
    coefficient: Float[Array, ""], divergence: Float[Array, ""], *, target: chex.Numeric, gain: chex.Numeric
) -> Float[Array, ""]:
    """β ← β·(1 + K·e) with e = clip((KL − target) / target, ±0.2), in float32.

    Args:
      coefficient: β, above 0.
      divergence: measured KL, nats per token.
      target: target KL, in the same unit; above 0.
      gain: K, 0.1 in the paper.
    """
    error = jnp.clip((divergence - target) / target, -LARGEST_ERROR, LARGEST_ERROR)
    return jnp.asarray(coefficient * (1.0 + gain * error), jnp.float32)
