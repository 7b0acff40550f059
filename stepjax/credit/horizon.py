"""Horizons: how much credit passes from a token back to the one before it."""

import numbers

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from stepjax.credit.gae import factored_gae


def boundary_discount(horizon: str | float) -> float:
    """The factor by which credit is discounted where it crosses a step's end: "step" 0, "response" 1, or a number.

    "turn" is 1: a turn's end stops credit, not a step's.
    """
    if horizon == "step":
        return 0.0
    if horizon in ("response", "turn"):
        return 1.0
    number = isinstance(horizon, numbers.Real) and not isinstance(horizon, bool)
    if not number or not 0.0 <= float(horizon) <= 1.0:
        raise ValueError(f'horizon {horizon!r}: must be "step", "turn", "response" or a number between 0 and 1')
    return float(horizon)


def boundary_factor(
    horizon: str | float, step_end: Bool[Array, "B T"], turn_end: Bool[Array, "B T"] | None = None
) -> Float[Array, "B T"]:
    """The factor c_t between token t and the next masked one: 1 but where the horizon discounts or cuts.

    Args:
      horizon: "step", "turn", "response" or a number.
      step_end: True on each step's last token.
      turn_end: True on the last token of each turn; None: the response is one turn. Only "turn" reads it.
    """
    if horizon != "turn":
        return jnp.where(step_end, boundary_discount(horizon), 1.0)
    return jnp.ones(step_end.shape) if turn_end is None else jnp.where(turn_end, 0.0, 1.0)


def within(places: Bool[Array, "B T"], mask: Bool[Array, "B T"], factor: Float[Array, "B T"]) -> Bool[Array, "B T"]:
    """Whether one of `places` lies at or after each masked token, with no cut (a factor of 0) on the way to it."""
    open_ = jnp.where(factor > 0, 1.0, 0.0)
    count, _ = factored_gae(places, jnp.zeros_like(open_), mask, open_, gamma=1.0, lam=1.0)
    return count > 0
