"""Places of rewards on a response: the ends of its steps, or its own end."""

import jax.numpy as jnp
from jaxtyping import Array, Bool

from stepjax.trajectory import Trajectory


def last_token(rows: Trajectory) -> Bool[Array, "B T"]:
    """The policy's last token of each response that has one, truncated or not."""
    mask = rows.mask
    return mask & (rows.columns == jnp.max(jnp.where(mask, rows.columns, -1), axis=1, keepdims=True))


def rated_ends(rows: Trajectory) -> Bool[Array, "B T"]:
    """Last tokens of the steps that may be rated: the step that a truncation cut off is not one of them."""
    assert rows.steps is not None
    return rows.steps.end & ~(~rows.finished[:, None] & last_token(rows))


def rated_response(rows: Trajectory) -> Bool[Array, "B T"]:
    """The last token of each response that ended by itself."""
    return last_token(rows) & rows.finished[:, None]
