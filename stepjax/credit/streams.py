"""Reward streams: a signal and a horizon each, credited by one scan and summed into the policy's weight per token."""

import dataclasses
import math
import numbers
from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from stepjax.credit.gae import segment_gae
from stepjax.credit.whiten import whiten


def boundary_discount(horizon: str | float) -> float:
    """The factor by which credit is discounted where it crosses a step's end: "step" 0, "response" 1, or a number."""
    if horizon == "step":
        return 0.0
    if horizon == "response":
        return 1.0
    number = isinstance(horizon, numbers.Real) and not isinstance(horizon, bool)
    if not number or not 0.0 <= float(horizon) <= 1.0:
        raise ValueError(f'horizon {horizon!r}: must be "step", "response" or a number between 0 and 1')
    return float(horizon)


@dataclasses.dataclass(frozen=True)
class Stream:
    """How one reward signal is credited.

    Attributes:
      name: of the signal, in metrics.
      horizon: how far back it is credited: "step", "response" or the discount in [0, 1] across a step's end.
      gamma: γ, the discount between tokens, in [0, 1].
      lam: λ of GAE, in [0, 1].
      weight: factor of its advantages in the policy's weight.
      whiten: whether its advantages are whitened over the batch's valid tokens before they are weighted.
      critic: whether a value head stands behind it. Without one its values and bootstrap are 0 and its returns
        are no target of a value loss.
    """

    name: str
    horizon: str | float = "step"
    gamma: float = 1.0
    lam: float = 0.95
    weight: float = 1.0
    whiten: bool = False
    critic: bool = True

    def __post_init__(self):
        boundary_discount(self.horizon)
        for field in ("gamma", "lam"):
            if not 0.0 <= getattr(self, field) <= 1.0:
                raise ValueError(f"stream {self.name!r}: {field} {getattr(self, field)!r} must be between 0 and 1")
        if not math.isfinite(self.weight):
            raise ValueError(f"stream {self.name!r}: weight {self.weight!r} must be finite")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Credit:
    """What the streams credit to each token; 0 outside the mask.

    Attributes:
      advantages: A_t of each stream before weighting, whitened where asked, `[N, B, T]`.
      returns: targets of each stream's value head, `[N, B, T]`; never whitened.
      weight: Σ_i weight_i · A_i,t, the policy's weight, `[B, T]`.
    """

    advantages: Float[Array, "N B T"]
    returns: Float[Array, "N B T"]
    weight: Float[Array, "B T"]


def combine(
    streams: Sequence[Stream],
    rewards: Float[Array, "N B T"],
    values: Float[Array, "N B T"],
    mask: Bool[Array, "B T"],
    step_end: Bool[Array, "B T"],
    *,
    bootstrap: Float[Array, "N B"] | None = None,
) -> Credit:
    """Runs `segment_gae` on all N streams at once, each with its own γ, λ and horizon, and sums them.

    Args:
      streams: N of them; static under `jax.jit`.
      rewards: r_t of each stream, `[N, B, T]`.
      values: V_t of each stream's head, `[N, B, T]`; ignored for streams without a critic.
      mask: True on response tokens, `[B, T]`.
      step_end: True on each step's last token, `[B, T]`.
      bootstrap: each head's value after the last masked token, `[N, B]` (0 if not given).
    """
    chex.assert_rank(mask, 2)
    shape = (len(streams), *mask.shape)
    chex.assert_shape([rewards, values], shape)
    chex.assert_type([rewards, values], float)
    if bootstrap is None:
        bootstrap = jnp.zeros(shape[:2], jnp.float32)
    chex.assert_shape(bootstrap, shape[:2])

    critic = jnp.asarray([s.critic for s in streams])
    values = jnp.where(critic[:, None, None], values, 0)
    bootstrap = jnp.where(critic[:, None], bootstrap, 0)

    def credit_stream(rewards, values, bootstrap, gamma, lam, discount):
        return segment_gae(
            rewards, values, mask, step_end, gamma=gamma, lam=lam, boundary_discount=discount, bootstrap=bootstrap
        )

    gamma, lam, discount, weight = (
        jnp.asarray(x, jnp.float32)
        for x in (
            [s.gamma for s in streams],
            [s.lam for s in streams],
            [boundary_discount(s.horizon) for s in streams],
            [s.weight for s in streams],
        )
    )
    advantages, returns = jax.vmap(credit_stream)(rewards, values, bootstrap, gamma, lam, discount)
    advantages = jnp.stack([whiten(a, mask) if s.whiten else a for s, a in zip(streams, advantages, strict=True)])
    # A product and a sum, not a dot: accelerators round the inputs of a float32 dot.
    return Credit(advantages=advantages, returns=returns, weight=jnp.sum(weight[:, None, None] * advantages, axis=0))
