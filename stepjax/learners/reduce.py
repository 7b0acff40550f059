"""From one loss per token to one number: the mean over tokens, over steps or over responses.

Each is a weight per token and a count over the whole (sharded) batch, to be divided once. With steps or responses as
the unit, a token's weight in the gradient shrinks with the length of what it belongs to.
"""

import chex
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from stepjax.credit.step_sizes import step_sizes


def loss_weights(
    mask: Bool[Array, "B T"], step_end: Bool[Array, "B T"], unit: str, *, rows: int | None = None, longest: int = 0
) -> tuple[Float[Array, "B T"], Float[Array, ""]]:
    """Factor of each token's loss, so that the sum is Σ over units of the unit's mean; the number of units.

    Divided by the count the weights add up to 1: a loss over any part of the tokens, packed in any way, is a plain sum.

    Args:
      mask: True on tokens that count.
      step_end: True on each step's last token.
      unit: "token", "step" (of those that have tokens), "sequence" (rows that have tokens) or "fixed": the sum over all
        tokens over a count that does not depend on their lengths [Dr. GRPO 2503.20783].
      rows, longest: how many rows of how many tokens at most the count of "fixed" is of (None: all rows).

    Returns:
      (float32[B, T], 0 outside of the mask; float32[]).
    """
    chex.assert_equal_shape([mask, step_end])
    chex.assert_type([mask, step_end], bool)
    if unit == "token":
        return mask.astype(jnp.float32), jnp.sum(mask, dtype=jnp.int32).astype(jnp.float32)
    if unit == "fixed":
        count = jnp.asarray((mask.shape[0] if rows is None else rows) * (longest or mask.shape[1]), jnp.float32)
        return mask.astype(jnp.float32), count
    if unit == "step":
        sizes = step_sizes(mask, step_end)
        # The first token of each step, by the count of those that ended before it.
        ended = jnp.pad(jnp.cumsum(mask & step_end, axis=1, dtype=jnp.int32), ((0, 0), (1, 0)))[:, :-1]
        count = jnp.sum(jnp.max(jnp.where(mask, ended + 1, 0), axis=1), dtype=jnp.int32)
    elif unit == "sequence":
        sizes = jnp.where(mask, jnp.sum(mask, axis=1, keepdims=True, dtype=jnp.int32), 0)
        count = jnp.sum(jnp.any(mask, axis=1), dtype=jnp.int32)
    else:
        raise ValueError(f'unit {unit!r}: must be "token", "step", "sequence" or "fixed"')
    return jnp.where(mask, 1.0 / jnp.maximum(sizes, 1), 0.0), count.astype(jnp.float32)
