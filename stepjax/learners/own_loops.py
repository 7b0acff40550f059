"""What a training loop of one's own calls on whole trajectories: log-probabilities, values and the PPO loss.

The stages of stepjax do the same in micro-batches of packed rows (`score.py`, `update.py`). All of these are pure: call
them inside `jax.jit`, and differentiate the loss by its `params`.
"""

from typing import Any

import chex
import jax.numpy as jnp
from jaxtyping import Array, Float

from stepjax.credit.divergence import kl_estimate
from stepjax.learners.losses import ppo_clip
from stepjax.learners.packing import PackedRows, of_next_tokens
from stepjax.learners.reduce import loss_weights
from stepjax.learners.score import response_logprobs
from stepjax.models import Definition, LanguageModel
from stepjax.models.definition import Params
from stepjax.trajectory import Trajectory


def token_logprobs(
    policy: Definition[LanguageModel], params: Params, rows: Trajectory, *, temperature: float = 1.0
) -> tuple[Float[Array, "B T"], Float[Array, "B T"]]:
    """log π of each response token, and the entropy of π before it, in nats; float32, 0 elsewhere.

    Entry t belongs to token t. `temperature`: the sampler's. Where `rows.kept` says what the sampler's filters kept, π
    is renormalised over that, so that the ratio to `rows.logprobs` is exact.
    """
    found = response_logprobs(policy.bind(params), PackedRows.padded(rows, {}), temperature=temperature)
    logprobs, entropy = (of_next_tokens(x) for x in found)
    return logprobs, entropy


def token_values(
    critic: Definition[Any], params: Params, rows: Trajectory
) -> tuple[Float[Array, "B N T"], Float[Array, "B N"]]:
    """Values of a critic of N outputs (`ScoreModel`), and those behind the last token of truncated responses.

    `values[:, n, t]` is the value of the state before token t, 0 outside of `rows.mask`; `bootstrap[:, n]` is 0 where a
    response ended by itself. Both are what `segment_gae` takes, stream by stream.
    """
    after = critic.bind(params)(rows.tokens, rows.positions, rows.segments)
    values = jnp.where(rows.mask[..., None], of_next_tokens(after), 0.0)
    last = jnp.take_along_axis(after, rows.last[:, None, None], axis=1)[:, 0]
    return values.swapaxes(1, 2), jnp.where(rows.finished[:, None], 0.0, last)


def ppo_loss(
    policy: Definition[LanguageModel],
    params: Params,
    rows: Trajectory,
    advantages: Float[Array, "B T"],
    *,
    old_logprobs: Float[Array, "B T"] | None = None,
    ref_logprobs: Float[Array, "B T"] | None = None,
    clip_low: chex.Numeric = 0.2,
    clip_high: chex.Numeric = 0.2,
    dual_clip: chex.Numeric | None = None,
    kl: chex.Numeric = 0.0,
    entropy: chex.Numeric = 0.0,
    reduce: str = "token",
    temperature: float = 1.0,
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Clipped policy loss + kl × divergence from the reference − entropy × entropy, a mean over the response tokens.

    Args:
      advantages: A_t of each response token, or a weighted sum of several streams'; a constant for the gradient.
      old_logprobs: log π_old of each token; None: the sampler's own, `rows.logprobs`.
      ref_logprobs: of the reference policy, which `kl` (nats, estimator k3) needs.
      clip_low, clip_high, dual_clip: as in `ppo_clip`.
      reduce: what the mean is over: "token", "step" (needs `rows.steps`) or "sequence".
      temperature: the sampler's.

    Returns:
      (loss float32[], {"clip_fraction", "ratio_max", "kl_update", "entropy"}, float32[] each).
    """
    chex.assert_equal_shape([rows.tokens, advantages])
    mask = rows.mask
    old = rows.logprobs if old_logprobs is None else old_logprobs
    logprobs, spread = token_logprobs(policy, params, rows, temperature=temperature)
    losses, aux = ppo_clip(
        logprobs, old, advantages, clip_low=clip_low, clip_high=clip_high, dual_clip=dual_clip, mask=mask
    )
    losses -= entropy * spread
    if ref_logprobs is not None:
        losses += kl * kl_estimate(logprobs, ref_logprobs, "k3", mask=mask)
    ends = jnp.zeros_like(mask) if rows.steps is None else rows.steps.end
    if reduce == "step" and rows.steps is None:
        raise ValueError('reduce="step": the trajectory has no steps; StepSplitter.split makes them')
    weights, units = loss_weights(mask, ends, reduce)
    each, _ = loss_weights(mask, ends, "token")
    count = jnp.maximum(jnp.sum(each), 1.0)
    metrics = {
        "clip_fraction": jnp.sum(jnp.where(mask, aux["clipped"], False)) / count,
        "ratio_max": jnp.max(jnp.where(mask, aux["ratio"], 0.0)),
        "kl_update": jnp.sum(jnp.where(mask, kl_estimate(old, logprobs, "k3", mask=mask), 0.0)) / count,
        "entropy": jnp.sum(jnp.where(mask, spread, 0.0)) / count,
    }
    return jnp.sum(jnp.where(mask, losses * weights, 0.0)) / jnp.maximum(units, 1.0), metrics
