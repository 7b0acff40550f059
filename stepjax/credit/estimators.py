"""Estimators: names for the usual combinations of what is credited and what it is compared with.

All of them are the same walk backwards (`gae.py`). A row says which numbers lie on the tokens before it (`place`), and
which baseline is subtracted, before the walk from each score or after it from each return (`compare.py`):

  gae       the rewards, and a critic's values                    A_t = Σ (γλ)^l δ_{t+l} over the horizon
  return    the rewards, no baseline                              A_t = Σ γ^l r_{t+l} over the horizon
  value     the score V(k) of a step k at its end                 A_t = V(k), on all tokens of the step
  progress  V(k) − V(k−1) at its end                              A_t = V(k) − V(k−1), on all tokens of the step
  group     each score less the group's mean, over its std        A_t = Σ γ^l r̃_{t+l} over the horizon
  rloo      the rewards; the other rows' mean is subtracted after the walk

A stream's `baseline`, `scale` and `when` take the place of its estimator's. A new estimator is a row of `ESTIMATORS`,
and a choice of `StreamOptions.estimator`.
"""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from stepjax.credit.compare import BASELINES
from stepjax.credit.neighbours import before, last_of


@dataclasses.dataclass(frozen=True)
class Scores:
    """The scores of one stream before the walk.

    Attributes:
      rewards: of the stream's signal, float32 `[B, T]`.
      scored: True on the tokens that carry one of its scores, `[B, T]`.
      ends: True on the last token of every step, `[B, T]`.
      first: V(0), the value of each row's prompt, `[B]`.
      outcome: reward of each row's graded answer, `[B]`; None: it is not known.
      finished: whether each response ended by itself, `[B]`; None: all did.
      group: G, the responses to a problem, in consecutive rows.
    """

    rewards: Float[Array, "B T"]
    scored: Bool[Array, "B T"]
    ends: Bool[Array, "B T"]
    first: Float[Array, " B"]
    outcome: Float[Array, " B"] | None
    finished: Bool[Array, " B"] | None
    group: int


def as_earned(scores: Scores) -> Float[Array, "B T"]:
    """The rewards unchanged."""
    return scores.rewards


def at_step_ends(scores: Scores) -> Float[Array, "B T"]:
    """The score of each step, at its end."""
    return jnp.where(scores.scored & scores.ends, scores.rewards, 0.0)


def progress_of(scores: Scores) -> Float[Array, "B T"]:
    """What each step's score adds to the one before, at its end."""
    return progress(
        scores.rewards,
        scores.scored & scores.ends,
        first=scores.first,
        outcome=scores.outcome,
        finished=scores.finished,
    )


def progress(
    scores: Float[Array, "B T"],
    scored: Bool[Array, "B T"],
    *,
    first: Float[Array, " B"],
    outcome: Float[Array, " B"] | None = None,
    finished: Bool[Array, " B"] | None = None,
) -> Float[Array, "B T"]:
    """V(k) − V(k−1) of each step [PAV 2410.08146; VinePPO 2410.01679], at its end; 0 elsewhere.

    A row's sum telescopes to V(K) − V(0), where V(K) is the outcome of a finished response. A truncated response keeps
    the value of its last scored step; a step that was not scored (it was cut off) has no known progress.

    Args:
      scores: V(k), the value of the state after step k, at the step's end.
      scored: True on the ends of the steps that have a score.
      first: V(0), the value of the prompt, `[B]`.
      outcome: replaces V(K) where `finished`, `[B]`.
      finished: whether the response ended by itself; None: all did.
    """
    scores = jnp.where(scored, scores, 0.0)
    if outcome is not None:
        last = last_of(scored)
        if finished is not None:
            last &= finished[:, None]
        scores = jnp.where(last, outcome[:, None], scores)
    return jnp.where(scored, scores - before(scores, scored, first), 0.0)


@dataclasses.dataclass(frozen=True)
class Estimator:
    """A way to turn scores into credit.

    Attributes:
      place: what the walk finds on each token, float32 `[B, T]`.
      baseline: what a score or return is compared with: "none", "critic" (values, which λ weighs), "others" (the mean
        of the problem's other responses) or "mean" (that of all of them).
      scale: "none", or "std" or "sample_std" of what it is compared with.
      when: the baseline is subtracted from each "score", before the walk, or from each "return", after it.
      of_a_step: it belongs to a step by definition: no horizon but "step", no discount.
      of_values: it reads scores as values, whose differences it credits.
      options: stream options that only this estimator (and others that name them too) reads. Set for another one they
        are refused.
    """

    place: Callable[[Scores], Float[Array, "B T"]] = as_earned
    baseline: str = "none"
    scale: str = "none"
    when: str = "score"
    of_a_step: bool = False
    of_values: bool = False
    options: tuple[str, ...] = ()

    @property
    def critic(self) -> bool:
        """A value head has a use."""
        return self.baseline == "critic"

    @property
    def compares(self) -> bool:
        """It compares the responses to a problem with each other and needs two or more."""
        return self.baseline in BASELINES

    @property
    def sums_rewards(self) -> bool:
        """Whether what it credits, a critic's values apart, is the discounted sum of a response's rewards to come."""
        return self.place is as_earned and not self.compares


ESTIMATORS: dict[str, Estimator] = {
    "gae": Estimator(baseline="critic"),
    "return": Estimator(),
    "value": Estimator(at_step_ends, of_a_step=True),
    "progress": Estimator(progress_of, of_a_step=True, of_values=True, options=("first", "prompt_value", "last")),
    "group": Estimator(baseline="mean", scale="std"),
    "rloo": Estimator(baseline="others", when="return"),
}

WITH_CRITIC = tuple(name for name, estimator in ESTIMATORS.items() if estimator.critic)


def effective(
    estimator: str, *, baseline: str = "", scale: str = "", when: str = "", follows: bool = False
) -> Estimator:
    """The estimator with the stream's own `baseline`, `scale` and `when` in the place of its row's, where given.

    A given baseline replaces the scale and `when` of the row, too. `follows`: the stream multiplies or adds to another
    one; where it names no baseline it has none, instead of a critic.
    """
    row = ESTIMATORS[estimator]
    if not baseline and follows and row.critic:
        baseline = "none"
    if baseline and baseline != row.baseline:
        row = dataclasses.replace(row, baseline=baseline, scale="none", when="score")
    return dataclasses.replace(row, scale=scale or row.scale, when=when or row.when)
