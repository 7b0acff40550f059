"""Reward streams: signals, each with its horizon and estimator, credited in one walk and summed into one weight."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from stepjax.credit.estimators import COMPARING, ESTIMATORS, OF_A_STEP, on_tokens
from stepjax.credit.gae import factored_gae
from stepjax.credit.groups import leave_one_out
from stepjax.credit.horizon import boundary_discount, boundary_factor, within
from stepjax.credit.neighbours import last_of
from stepjax.credit.whiten import whiten


@dataclasses.dataclass(frozen=True)
class Stream:
    """How one reward signal is credited.

    Attributes:
      name: of the signal, in metrics.
      horizon: how far back it is credited: "step", "turn", "response" or the discount in [0, 1] across a step's end.
      gamma: γ, the discount between tokens, in [0, 1].
      lam: λ of GAE, in [0, 1]; other estimators have none.
      weight: factor of its advantages in the policy's weight.
      whiten: whether its advantages are whitened over the batch's valid tokens before they are weighted.
      critic: whether it has a value head. Without one its values and bootstrap are 0 and its returns
        are not the target of a value loss. Only "gae" uses one: it is False for every other estimator.
      estimator: one of `estimators.ESTIMATORS`.
    """

    name: str
    horizon: str | float = "step"
    gamma: float = 1.0
    lam: float = 0.95
    weight: float = 1.0
    whiten: bool = False
    critic: bool = True
    estimator: str = "gae"

    def __post_init__(self):
        discount = boundary_discount(self.horizon)
        for field in ("gamma", "lam"):
            if not 0.0 <= getattr(self, field) <= 1.0:
                raise ValueError(f"stream {self.name!r}: {field} {getattr(self, field)!r} must be between 0 and 1")
        if not math.isfinite(self.weight):
            raise ValueError(f"stream {self.name!r}: weight {self.weight!r} must be finite")
        if self.estimator not in ESTIMATORS:
            raise ValueError(f"estimator {self.estimator!r}: must be one of {', '.join(ESTIMATORS)}")
        if self.estimator in OF_A_STEP and (discount or self.gamma != 1.0):
            raise ValueError(
                f"estimator {self.estimator!r} credits a step's tokens with only that step: "
                f'horizon must be "step" and gamma 1, not {self.horizon!r} and {self.gamma}'
            )
        object.__setattr__(self, "critic", self.critic and self.estimator == "gae")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Credit:
    """Credit of the streams to each token; 0 outside the mask.

    Attributes:
      advantages: A_t of each stream before weighting, whitened where asked, `[N, B, T]`.
      returns: targets of each stream's value head, `[N, B, T]`; never whitened. Without a critic, the plain sum over
        the horizon (no baseline is subtracted).
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
    turn_end: Bool[Array, "B T"] | None = None,
    scored: Bool[Array, "N B T"] | None = None,
    first: Float[Array, "N B"] | None = None,
    outcome: Float[Array, "N B"] | None = None,
    finished: Bool[Array, " B"] | None = None,
    group: int = 1,
    weight: Mapping[str, Float[Array, ""]] | None = None,
) -> Credit:
    """Credits all N streams in one walk, each with its own estimator, γ, λ and horizon, and sums them.

    Args:
      streams: N of them; static under `jax.jit`.
      rewards: r_t of each stream, `[N, B, T]`.
      values: V_t of each stream's head, `[N, B, T]`; ignored for streams without a critic.
      mask: True on response tokens, `[B, T]`.
      step_end: True on each step's last token, `[B, T]`; a row's last masked token ends a step in any case.
      bootstrap: each head's value after the last masked token, `[N, B]` (0 if not given).
      turn_end: True on the last masked token of each turn; None: a response is one turn.
      scored: True on the tokens that carry a score of the stream, one of 0 included; None: on every step's end. The
        estimators "value", "progress" and "group" read no other token, "rloo" uses it to find what was rated.
      first: for "progress": V(0) of each row; None: 0.
      outcome: for "progress": the value that replaces a finished response's last one; None: no replacement.
      finished: whether each response ended by itself; None: all did.
      group: G, the responses to a problem, in consecutive rows; static. "group" and "rloo" need 2 or more.
      weight: weights, by name, of streams, in place of their own `weight`.

    Raises:
      ValueError: "group" or "rloo" with a group of one.
    """
    chex.assert_rank(mask, 2)
    shape = (len(streams), *mask.shape)
    chex.assert_shape([rewards, values], shape)
    chex.assert_type([rewards, values], float)
    for stream in streams:
        if stream.estimator in COMPARING and group < 2:
            raise ValueError(f"stream {stream.name!r}: estimator {stream.estimator!r} needs a group of 2 rows or more")
    empty = jnp.zeros(shape[:2], jnp.float32)
    bootstrap, first = (empty if x is None else x for x in (bootstrap, first))
    chex.assert_shape([bootstrap, first, empty if outcome is None else outcome], shape[:2])
    ends = mask & (step_end | last_of(mask))
    scored = jnp.broadcast_to(ends, shape) if scored is None else scored & mask
    chex.assert_shape(scored, shape)

    walked, factors = [], []
    for i, s in enumerate(streams):
        last = None if outcome is None else outcome[i]
        walked.append(
            on_tokens(
                s.estimator, rewards[i], scored[i], ends, first=first[i], outcome=last, finished=finished, group=group
            )
        )
        factors.append(boundary_factor(s.horizon, step_end, turn_end))
    critic = jnp.asarray([s.critic for s in streams])
    gamma, lam, weights = (
        jnp.asarray(x, jnp.float32)
        for x in (
            [s.gamma for s in streams],
            [s.lam if s.estimator == "gae" else 1.0 for s in streams],
            [(weight or {}).get(s.name, s.weight) for s in streams],
        )
    )

    def walk(rewards, values, factor, gamma, lam, bootstrap):
        return factored_gae(rewards, values, mask, factor, gamma=gamma, lam=lam, bootstrap=bootstrap)

    values = jnp.where(critic[:, None, None], values, 0)
    bootstrap = jnp.where(critic[:, None], bootstrap, 0)
    found, returns = jax.vmap(walk)(jnp.stack(walked), values, jnp.stack(factors), gamma, lam, bootstrap)

    credited = []
    for s, advantage, factor, places in zip(streams, found, factors, scored, strict=True):
        if s.estimator == "rloo":
            advantage = leave_one_out(advantage, mask, factor, within(places, mask, factor), group=group)
        credited.append(whiten(advantage, mask) if s.whiten else advantage)
    advantages = jnp.stack(credited)
    # A product and a sum, not a dot: accelerators round the inputs of a float32 dot.
    return Credit(advantages=advantages, returns=returns, weight=jnp.sum(weights[:, None, None] * advantages, axis=0))
