"""Estimators: a stream's credit to each token, from the scores of its signal.

All of them are the same walk backwards (`gae.py`); they differ in what is put on the tokens before it:

  gae       the rewards, and a critic's values                    A_t = Σ (γλ)^l δ_{t+l} over the horizon
  return    the rewards, no values                                A_t = Σ γ^l r_{t+l} over the horizon
  value     the score V(k) of a step k at its end                 A_t = V(k), on all tokens of the step
  progress  V(k) − V(k−1) at its end                              A_t = V(k) − V(k−1), on all tokens of the step
  group     each score normalised over the group                  A_t = Σ γ^l r̃_{t+l} over the horizon
  rloo      the rewards; the other rows' mean is subtracted after the walk
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from stepjax.credit.groups import normalise_by_group
from stepjax.credit.neighbours import before, last_of

ESTIMATORS = ("gae", "return", "value", "progress", "group", "rloo")
COMPARING = ("group", "rloo")
"""They compare the responses to a problem with each other and need two or more."""

OF_A_STEP = ("value", "progress")
"""They belong to a step by definition: no horizon but "step", no discount."""


def on_tokens(
    estimator: str,
    rewards: Float[Array, "B T"],
    scored: Bool[Array, "B T"],
    ends: Bool[Array, "B T"],
    *,
    first: Float[Array, " B"],
    outcome: Float[Array, " B"] | None,
    finished: Bool[Array, " B"] | None,
    group: int,
) -> Float[Array, "B T"]:
    """Inputs of the walk backwards, on each token of a stream.

    Args:
      rewards: of the stream's signal, `[B, T]`.
      scored: True on the tokens that carry one of its scores.
      ends: True on the last token of every step.
      first, outcome, finished: of `progress`.
      group: of `normalise_by_group`.
    """
    scores = rewards.astype(jnp.float32)
    if estimator == "value":
        return jnp.where(scored & ends, scores, 0.0)
    if estimator == "progress":
        return progress(scores, scored & ends, first=first, outcome=outcome, finished=finished)
    if estimator == "group":
        return normalise_by_group(scores, scored, group=group)
    return scores


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
