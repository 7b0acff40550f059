"""Reward streams: signals, each with its horizon and estimator, credited in one walk and summed into one weight."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from stepjax.credit.estimators import ESTIMATORS, Scores
from stepjax.credit.gae import factored_gae
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
      lam: λ of GAE, in [0, 1]; estimators without a critic have none.
      weight: factor of its advantages in the policy's weight.
      whiten: whether its advantages are whitened over the batch's valid tokens before they are weighted.
      critic: whether a value head stands behind it. Without one its values and bootstrap are 0 and its returns
        are no target of a value loss. It is False where the estimator has no use for one.
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
        estimator = ESTIMATORS[self.estimator]
        if estimator.of_a_step and (discount or self.gamma != 1.0):
            raise ValueError(
                f"estimator {self.estimator!r} credits a step's tokens with that step alone: "
                f'horizon must be "step" and gamma 1, not {self.horizon!r} and {self.gamma}'
            )
        object.__setattr__(self, "critic", self.critic and estimator.critic)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Credit:
    """What the streams credit to each token; 0 outside the mask.

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
        estimators "value", "progress" and "group" read no other token, "rloo" knows from it what was rated.
      first: for "progress": V(0) of each row; None: 0.
      outcome: for "progress": what a finished response's last value is replaced by; None: it stays.
      finished: whether each response ended by itself; None: all did.
      group: G, the responses to a problem, in consecutive rows; static. "group" and "rloo" need 2 or more.
      weight: weights, by name, of streams whose own `weight` they take the place of.

    Raises:
      ValueError: "group" or "rloo" with a group of one.
    """
    chex.assert_rank(mask, 2)
    shape = (len(streams), *mask.shape)
    chex.assert_shape([rewards, values], shape)
    chex.assert_type([rewards, values], float)
    _check_groups(streams, group)
    empty = jnp.zeros(shape[:2], jnp.float32)
    bootstrap, first = (empty if x is None else x for x in (bootstrap, first))
    chex.assert_shape([bootstrap, first, empty if outcome is None else outcome], shape[:2])
    ends = mask & (step_end | last_of(mask))
    scored = jnp.broadcast_to(ends, shape) if scored is None else scored & mask
    chex.assert_shape(scored, shape)

    placed = []
    for i, stream in enumerate(streams):
        worth = None if outcome is None else outcome[i]
        scores = Scores(rewards[i].astype(jnp.float32), scored[i], ends, first[i], worth, finished, group)
        placed.append(ESTIMATORS[stream.estimator].place(scores))
    factors = [boundary_factor(stream.horizon, step_end, turn_end) for stream in streams]
    walked, returns = _walk(streams, jnp.stack(placed), values, mask, jnp.stack(factors), bootstrap)
    advantages = jnp.stack(
        [_finish(*of_one, mask, group) for of_one in zip(streams, walked, factors, scored, strict=True)]
    )
    return Credit(advantages=advantages, returns=returns, weight=_weighted(streams, advantages, weight or {}))


def _check_groups(streams: Sequence[Stream], group: int) -> None:
    for stream in streams:
        if ESTIMATORS[stream.estimator].compares and group < 2:
            raise ValueError(f"stream {stream.name!r}: estimator {stream.estimator!r} needs a group of 2 rows or more")


def _walk(
    streams: Sequence[Stream],
    rewards: Float[Array, "N B T"],
    values: Float[Array, "N B T"],
    mask: Bool[Array, "B T"],
    factors: Float[Array, "N B T"],
    bootstrap: Float[Array, "N B"],
) -> tuple[Float[Array, "N B T"], Float[Array, "N B T"]]:
    """Advantages and returns of all streams in one walk; λ is 1 and there are no values where no critic stands."""
    critic = jnp.asarray([s.critic for s in streams])
    gamma = jnp.asarray([s.gamma for s in streams], jnp.float32)
    lam = jnp.asarray([s.lam if ESTIMATORS[s.estimator].critic else 1.0 for s in streams], jnp.float32)

    def walk(rewards, values, factor, gamma, lam, bootstrap):
        return factored_gae(rewards, values, mask, factor, gamma=gamma, lam=lam, bootstrap=bootstrap)

    values = jnp.where(critic[:, None, None], values, 0)
    bootstrap = jnp.where(critic[:, None], bootstrap, 0)
    return jax.vmap(walk)(rewards, values, factors, gamma, lam, bootstrap)


def _finish(
    stream: Stream,
    advantages: Float[Array, "B T"],
    factor: Float[Array, "B T"],
    scored: Bool[Array, "B T"],
    mask: Bool[Array, "B T"],
    group: int,
) -> Float[Array, "B T"]:
    """What becomes of a stream's advantages after the walk: its estimator's last touch, then whitening."""
    after = ESTIMATORS[stream.estimator].after
    if after is not None:
        advantages = after(advantages, mask, factor, within(scored, mask, factor), group=group)
    return whiten(advantages, mask) if stream.whiten else advantages


def _weighted(
    streams: Sequence[Stream], advantages: Float[Array, "N B T"], weight: Mapping[str, Float[Array, ""]]
) -> Float[Array, "B T"]:
    """Σ_i weight_i · A_i,t. A product and a sum, not a dot: accelerators round the inputs of a float32 dot."""
    weights = jnp.asarray([weight.get(s.name, s.weight) for s in streams], jnp.float32)
    return jnp.sum(weights[:, None, None] * advantages, axis=0)
