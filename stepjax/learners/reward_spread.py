"""How much the rewards of a round differ: without a difference there is nothing to learn from."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

TOLERANCE = 1e-6
"""Rewards of responses that differ by less, relative to the largest, are the same: what rounding leaves."""


def reward_spread(names: Sequence[str], rewards: Float[Array, "B S T"], group: int) -> dict[str, Array]:
    """For each stream, `reward_std/NAME`: the standard deviation of the responses' rewards (sums over their tokens).

    With several responses to a problem (`group` adjacent rows) also `reward_flat/NAME`: the share of problems whose
    responses all earn the same, so that a baseline of the group leaves no advantage.
    """
    found: dict[str, Array] = {}
    for i, name in enumerate(names):
        sums = jnp.sum(rewards[:, i].astype(jnp.float32), axis=-1)
        found[f"reward_std/{name}"] = jnp.std(sums)
        if group > 1:
            groups = sums.reshape(-1, group)
            largest = jnp.max(jnp.abs(groups), axis=-1)
            same = jnp.ptp(groups, axis=-1) <= TOLERANCE * jnp.maximum(largest, 1.0)
            found[f"reward_flat/{name}"] = jnp.mean(same)
    return found
