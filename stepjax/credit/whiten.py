"""Statistics over valid tokens: sums and counts over the whole batch, divided once.

Under `jax.jit` the sums run over the global array, so a batch spread over devices has the statistics of the batch.
Values outside the mask are never read; a batch without a valid token gives 0, not NaN.
"""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def masked_mean(x: Float[Array, "*shape"], mask: Bool[Array, "*shape"]) -> Float[Array, ""]:
    """Σ x / n over the n valid entries, in float32."""
    chex.assert_equal_shape([x, mask])
    chex.assert_type(mask, bool)
    total = jnp.sum(jnp.where(mask, x, 0).astype(jnp.float32))
    return total / jnp.maximum(jnp.sum(mask), 1)


def masked_var(x: Float[Array, "*shape"], mask: Bool[Array, "*shape"]) -> Float[Array, ""]:
    """Σ (x − mean)² / n over the n valid entries (biased), in float32."""
    deviation = jnp.where(mask, x, 0).astype(jnp.float32) - masked_mean(x, mask)
    return masked_mean(jnp.square(deviation), mask)


def whiten(
    x: Float[Array, "*shape"],
    mask: Bool[Array, "*shape"],
    *,
    shift_mean: bool = True,
    epsilon: chex.Numeric = 1e-8,
) -> Float[Array, "*shape"]:
    """(x − mean) / √(var + ε) over the valid entries [Huang et al.], 0 elsewhere.

    Without `shift_mean` the mean is put back, unscaled, after the division: the standard deviation is 1 and the mean
    stays.
    """
    mean = masked_mean(x, mask)
    whitened = (jnp.where(mask, x, 0).astype(jnp.float32) - mean) * jax.lax.rsqrt(masked_var(x, mask) + epsilon)
    if not shift_mean:
        whitened += mean
    return jnp.where(mask, whitened, 0.0)


def explained_variance(
    values: Float[Array, "*shape"], returns: Float[Array, "*shape"], mask: Bool[Array, "*shape"]
) -> Float[Array, ""]:
    """1 − Var(returns − values) / Var(returns) over the valid entries: 1 for a perfect critic, 0 for a constant one.

    0 where the returns do not vary, rounding apart.
    """
    chex.assert_equal_shape([values, returns, mask])
    values, returns = jnp.asarray(values, jnp.float32), jnp.asarray(returns, jnp.float32)
    spread = masked_var(returns, mask)
    error = returns - values
    # Returns are advantages plus values: where nothing is earned they are 0 give or take 1e-7 of the values.
    varies = spread > 1e-12 * (masked_mean(values**2, mask) + masked_mean(returns**2, mask))
    return jnp.where(varies, 1.0 - masked_var(error, mask) / jnp.where(varies, spread, 1.0), 0.0)


def correlation(x: Float[Array, "*shape"], y: Float[Array, "*shape"], mask: Bool[Array, "*shape"]) -> Float[Array, ""]:
    """Pearson's correlation over the valid entries, in [−1, 1]; 0 where either does not vary, rounding apart."""
    chex.assert_equal_shape([x, y, mask])
    x, y = (jnp.where(mask, z, 0).astype(jnp.float32) for z in (x, y))
    covariance = masked_mean((x - masked_mean(x, mask)) * (y - masked_mean(y, mask)), mask)
    spreads = masked_var(x, mask), masked_var(y, mask)
    varies = (spreads[0] > 1e-12 * masked_mean(x**2, mask)) & (spreads[1] > 1e-12 * masked_mean(y**2, mask))
    # Two roots, not the root of a product, which would underflow first.
    scale = jnp.where(varies, jnp.sqrt(spreads[0]) * jnp.sqrt(spreads[1]), 1.0)
    return jnp.where(varies, jnp.clip(covariance / scale, -1.0, 1.0), 0.0)
