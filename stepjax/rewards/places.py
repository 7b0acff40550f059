"""Places of rewards on a response: the ends of its steps or turns, or its own end."""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Bool

from stepjax.trajectory import Trajectory


def last_token(rows: Trajectory) -> Bool[Array, "B T"]:
    """The policy's last token of each response that has one, truncated or not."""
    mask = rows.mask
    return mask & (rows.columns == jnp.max(jnp.where(mask, rows.columns, -1), axis=1, keepdims=True))


def step_ends(rows: Trajectory) -> Bool[Array, "B T"]:
    """Last tokens of all steps, the one that a truncation cut off included."""
    assert rows.steps is not None
    return rows.steps.end


def rated_ends(rows: Trajectory) -> Bool[Array, "B T"]:
    """Last tokens of the steps that may be rated: the step that a truncation cut off is not one of them."""
    return step_ends(rows) & ~(~rows.finished[:, None] & last_token(rows))


def rated_response(rows: Trajectory) -> Bool[Array, "B T"]:
    """The last token of each response that ended by itself."""
    return last_token(rows) & rows.finished[:, None]


def every_token(rows: Trajectory) -> Bool[Array, "B T"]:
    """All tokens of the policy's."""
    return rows.mask


def rated_turns(rows: Trajectory) -> Bool[Array, "B T"]:
    """The policy's last tokens of the turns that an environment answered."""
    assert rows.turns is not None, "an environment over turns has rated no turns"
    return rows.turns.rated & rows.mask


@dataclasses.dataclass(frozen=True)
class Place:
    """The tokens on which a signal's scores lie.

    Attributes:
      tokens: bool[B, T] of a trajectory whose step ids are known.
      of_steps: there is one a step, so that a shaping can compare a response's steps.
    """

    tokens: Callable[[Trajectory], Bool[Array, "B T"]]
    of_steps: bool = False


STEPS = Place(step_ends, of_steps=True)
RATED_STEPS = Place(rated_ends, of_steps=True)
RESPONSE = Place(last_token)
RATED_RESPONSE = Place(rated_response)
EVERY_TOKEN = Place(every_token)
RATED_TURNS = Place(rated_turns)
