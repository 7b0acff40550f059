"""When a minibatch is skipped: the policy has moved too far from the sampling policy, or its ratios exploded.

Both are computed from the forward pass, before the minibatch's own update.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool

from stepjax.config import PPOOptions


class Verdict(NamedTuple):
    """Decision on a minibatch, each bool[].

    Attributes:
      stopped: this minibatch and all later ones of the round are skipped.
      skipped: only this one is skipped.
    """

    stopped: Bool[Array, ""]
    skipped: Bool[Array, ""]


def has_guards(options: PPOOptions) -> bool:
    """Whether any minibatch may be skipped."""
    return bool(options.kl_stop or options.ratio_guard or options.mean_ratio_guard)


def pass_guards(
    options: PPOOptions, stopped: Bool[Array, ""], *, divergence: Array, ratio_max: Array, ratio_mean: Array
) -> Verdict:
    """Decides by the mean k3 divergence from the sampling policy and by the largest and the mean ratio over tokens.

    `stopped` says whether an earlier minibatch of the round stopped it. NaN is out of bounds.
    """
    skipped = jnp.zeros((), bool)
    if options.kl_stop:
        stopped = stopped | ~(divergence <= options.kl_stop)
    if options.ratio_guard:
        skipped = skipped | ~(ratio_max <= options.ratio_guard)
    if options.mean_ratio_guard:
        skipped = skipped | ~(ratio_mean <= options.mean_ratio_guard)
    return Verdict(stopped, skipped & ~stopped)
