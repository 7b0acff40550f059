"""The length signal: steps, or whole responses, outside of a band of lengths cost something for each token."""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from stepjax.config import StreamOptions
from stepjax.errors import UserError
from stepjax.rewards.places import last_token
from stepjax.trajectory import Trajectory


def band_cost(
    tokens: Float[Array, "*shape"], *, least: chex.Numeric, most: chex.Numeric, whole: Bool[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """How many tokens a length lies outside of [least, most], 0 inside; `most` 0: no upper bound.

    Where `whole` is False the text was cut off: it may have become long enough, so that only what is already too much
    counts.
    """
    short = jnp.where(whole, jnp.maximum(least - tokens, 0.0), 0.0)
    return short + jnp.where(most > 0, jnp.maximum(tokens - most, 0.0), 0.0)


def step_lengths(rows: Trajectory) -> Float[Array, "B T"]:
    """The number of tokens of each step at the step's last token, 0 elsewhere."""
    assert rows.steps is not None
    mask, end = rows.mask, rows.steps.end
    so_far = jnp.cumsum(mask, axis=1)
    # What had been written when the step before ended: a running maximum carries it on.
    before = jax.lax.cummax(jnp.where(end, so_far, 0), axis=1)
    before = jnp.pad(before, ((0, 0), (1, 0)))[:, :-1]
    return jnp.where(end, so_far - before, 0).astype(jnp.float32)


def length_rewards(rows: Trajectory, *, per: str, least: int, most: int, token_cost: float) -> Float[Array, "B T"]:
    """−token_cost for each token outside of the band, at the last token of each step or of the response.

    An empty response earns nothing: it has no token that could bear the cost.
    """
    assert rows.steps is not None
    last = last_token(rows)
    at, tokens = rows.steps.end, step_lengths(rows)
    if per == "response":
        at, tokens = last, jnp.sum(rows.mask, axis=1, dtype=jnp.float32)[:, None]
    whole = rows.finished[:, None] | ~last
    cost = band_cost(jnp.broadcast_to(tokens, at.shape), least=least, most=most, whole=whole)
    return jnp.where(at, -token_cost * cost, 0.0)


def check_band(options: StreamOptions, where: str) -> None:
    """UserError where a stream's options set no band of lengths, or an empty one."""
    if not options.least and not options.most:
        raise UserError(f"{where}: signal length needs a band: set least, most or both, in tokens")
    if options.most and options.least > options.most:
        raise UserError(f"{where}.least: {options.least} tokens is above most={options.most}")
