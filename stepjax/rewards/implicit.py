"""The implicit process reward β · (log φ − log π_ref) [PRIME 2502.01456], by token, by step or by response.

φ is trained on outcomes alone (`learners/implicit.py`). The sum over the first tokens of a response is then φ's value
of these, in log-odds of a right answer, and a token's reward is what it adds to that value.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from stepjax.config import StreamOptions
from stepjax.credit.estimators import ESTIMATORS, Estimator
from stepjax.credit.units import add_up, unit_index
from stepjax.errors import UserError
from stepjax.rewards.places import last_token
from stepjax.trajectory import Trajectory


def implicit_rewards(rows: Trajectory, *, per: str) -> Float[Array, "B T"]:
    """The reward of each token, or its sum over each step or the response, at the last token of that.

    A step or a response that a truncation cut off has the sum of its tokens, too.
    """
    assert rows.implicit is not None and rows.steps is not None
    rewards = jnp.where(rows.mask, rows.implicit, 0.0)
    if per == "token":
        return rewards
    ends = rows.steps.end if per == "step" else last_token(rows)
    index, width = unit_index(ends), rewards.shape[1]
    sums = add_up(rewards, index, width)
    return jnp.where(ends, jnp.take_along_axis(sums, jnp.minimum(index, width - 1), axis=1), 0.0)


def check_implicit(options: StreamOptions, where: str) -> None:
    """UserError where a stream's estimator takes its rewards for something else."""
    estimator = ESTIMATORS.get(options.estimator, Estimator())
    if estimator.of_values:
        raise UserError(
            f"{where}.estimator: {options.estimator} takes differences of values, and implicit rewards are differences "
            "already; choose value (a step's own) or return"
        )
    if estimator.of_a_step and options.per != "step":
        raise UserError(
            f"{where}.per: estimator {options.estimator} credits the score of each step; set per=step, not "
            f"{options.per}"
        )
