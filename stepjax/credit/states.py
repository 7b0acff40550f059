"""States that several responses to a problem pass through: equal tokens up to a token."""

import chex
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


def prefix_states(tokens: Int[Array, "B T"], inside: Bool[Array, "B T"], *, group: int) -> Int[Array, "B T"]:
    """The state before each token, as a number in [0, G·T): two tokens of a group have the same one where all tokens
    before them are the same, prompt included.

    It is j·T + t, where j is the first row of the group with the same tokens before column t: exact, without a hash.

    Args:
      tokens: `[B, T]`; the responses of a group begin in the same column.
      inside: True on the tokens of prompts and responses: a response that has ended has no state.
      group: G; rows i·G … i·G + G − 1 belong together.
    """
    rows, length = tokens.shape
    chex.assert_is_divisible(rows, group)
    tokens = jnp.where(inside, tokens, -1).reshape(-1, group, length)
    response = jnp.cumsum(inside, axis=1).reshape(-1, group, length)
    first = jnp.zeros(tokens.shape, jnp.int32)
    for j in reversed(range(group)):
        there = (tokens[:, j : j + 1] >= 0) | (response[:, j : j + 1] == 0)  # not after the end of row j
        same = jnp.cumprod((tokens == tokens[:, j : j + 1]) & there, axis=2)
        same = jnp.pad(same, ((0, 0), (0, 0), (1, 0)))[:, :, :-1].astype(bool).at[:, :, 0].set(True)
        first = jnp.where(same, j, first)
    return (first * length + jnp.arange(length, dtype=jnp.int32)).reshape(rows, length)
