"""Sizes of steps in tokens."""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


def step_sizes(mask: Bool[Array, "B T"], step_end: Bool[Array, "B T"]) -> Int[Array, "B T"]:
    """How many masked tokens the step of each masked token has, 0 elsewhere.

    A step is the masked tokens after one end up to the next; those after a row's last end are one more.
    """
    chex.assert_equal_shape([mask, step_end])
    so_far = jnp.cumsum(mask, axis=1, dtype=jnp.int32)
    end = mask & step_end
    total = so_far[:, -1:]
    upto = jax.lax.cummin(jnp.where(end, so_far, total), axis=1, reverse=True)
    ended = jax.lax.cummax(jnp.where(end, so_far, 0), axis=1)
    before = jnp.pad(ended, ((0, 0), (1, 0)))[:, :-1]  # tokens of the steps that ended before this token
    return jnp.where(mask, upto - before, 0)
