"""Which tokens train the policy: all of its own, or only those that `config.ppo.train_on` names."""

from collections.abc import Sequence

import chex
import jax.numpy as jnp
from jaxtyping import Array, Bool

from stepjax.config import PPOOptions
from stepjax.errors import UserError, nearest
from stepjax.trajectory import Trajectory

NAMES = ("below:P", "informative")


def parse_train_on(texts: Sequence[str]) -> tuple[float, bool]:
    """P of `below:P` (1: no bound) and whether only informative problems train; UserError for another text."""
    below, informative = 1.0, False
    for text in texts:
        name, _, value = text.partition(":")
        if name not in ("below", "informative"):
            raise UserError(f"config.ppo.train_on: no such choice {text!r}{nearest(name, ('below', 'informative'))}")
        if name == "informative":
            if value or informative:
                raise UserError(f"config.ppo.train_on: {text!r} must be written informative, once")
            informative = True
            continue
        try:
            bound = float(value)
        except ValueError:
            bound = 0.0
        if not 0.0 < bound < 1.0 or below < 1.0:
            raise UserError(f"config.ppo.train_on: {text!r} must be written below:P, once, with P between 0 and 1")
        below = bound
    return below, informative


def trained_tokens(options: PPOOptions, rows: Trajectory, correct: Bool[Array, " B"]) -> Bool[Array, "B T"] | None:
    """True on the response tokens that train the policy; None: all of them do.

    below:P      tokens whose probability under the policy, before the update, is at most P [SPO 2505.23564]
    informative  tokens of the responses to a problem that some of them solve and others do not [DAPO 2503.14476]
    """
    below, informative = parse_train_on(options.train_on)
    if below == 1.0 and not informative:
        return None
    trained = rows.mask
    if below < 1.0:
        assert rows.old_logprobs is not None
        trained &= rows.old_logprobs <= jnp.log(below)
    if informative:
        trained &= of_informative(correct & rows.finished, options.samples)[:, None]
    return trained


def of_informative(solved: Bool[Array, " B"], samples: int) -> Bool[Array, " B"]:
    """Whether each response, of `samples` in consecutive rows, is to a problem that some solve and others do not."""
    chex.assert_is_divisible(solved.shape[0], samples)
    groups = solved.reshape(-1, samples)
    return jnp.repeat(jnp.any(groups, axis=1) & ~jnp.all(groups, axis=1), samples)
