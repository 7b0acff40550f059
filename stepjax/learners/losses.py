"""Losses, one number per token.

Nothing here averages: sums and counts of tokens are added up over devices and micro-batches and divided once. Every
loss takes the mask of the tokens that count; the others are replaced before any arithmetic, so that whatever they hold
(NaN, too) reaches neither a value nor a gradient, and their loss is 0. Inputs of any float dtype, float32 inside.
"""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from stepjax.credit.divergence import LOG_RATIO_LIMIT, masked_float32

DPPO_MOST = 20.0
"""Largest ratio that DPPO multiplies a token's gradient with."""


def _ratio(logprobs: Float[Array, "*shape"], old_logprobs: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return jnp.exp(jnp.clip(logprobs - old_logprobs, -LOG_RATIO_LIMIT, LOG_RATIO_LIMIT))


def ppo_clip(
    logprobs: Float[Array, "B T"],
    old_logprobs: Float[Array, "B T"],
    advantages: Float[Array, "B T"],
    *,
    clip_low: chex.Numeric,
    clip_high: chex.Numeric,
    dual_clip: chex.Numeric | None = None,
    mask: Bool[Array, "B T"] | None = None,
) -> tuple[Float[Array, "B T"], dict[str, Array]]:
    """max(−Aρ, −A·clip(ρ, 1−ε_low, 1+ε_high)) with ρ = exp(clamp(logπ − logπ_old, ±20)) [Schulman 2017].

    With `dual_clip` c > 1 the loss of tokens with A < 0 is at most −cA.

    Args:
      logprobs: logπ of token t, `[B, T]`.
      old_logprobs: logπ_old of token t, as it was sampled.
      advantages: A_t.
      clip_low, clip_high: ε_low and ε_high.
      dual_clip: c, or None.
      mask: True on tokens that count; None: on all.

    Returns:
      (loss `[B, T]`, {"ratio": ρ, "clipped": True where a clip is active, i.e. the token has no gradient}).
    """
    logprobs, old_logprobs, advantages = masked_float32(mask, logprobs, old_logprobs, advantages)
    ratio = _ratio(logprobs, old_logprobs)
    plain = -advantages * ratio
    bounded = -advantages * jnp.clip(ratio, 1.0 - clip_low, 1.0 + clip_high)
    loss, clipped = jnp.maximum(plain, bounded), bounded > plain
    if dual_clip is not None:
        ceiling = jnp.where(advantages < 0, -dual_clip * advantages, jnp.inf)
        clipped |= loss > ceiling
        loss = jnp.minimum(loss, ceiling)
    return loss, {"ratio": ratio, "clipped": clipped}


def reinforce(
    logprobs: Float[Array, "B T"], advantages: Float[Array, "B T"], *, mask: Bool[Array, "B T"] | None = None
) -> Float[Array, "B T"]:
    """−A_t·logπ_t, whose gradient is the policy gradient's [Williams 1992]; exact where π is the sampling policy.

    Nothing keeps the policy near the sampling policy: use one pass over the responses, or an early stop.
    """
    logprobs, advantages = masked_float32(mask, logprobs, advantages)
    return -advantages * logprobs


def cispo(
    logprobs: Float[Array, "B T"],
    old_logprobs: Float[Array, "B T"],
    advantages: Float[Array, "B T"],
    *,
    clip_low: chex.Numeric,
    clip_high: chex.Numeric,
    own_logprobs: Float[Array, "B T"] | None = None,
    mask: Bool[Array, "B T"] | None = None,
) -> tuple[Float[Array, "B T"], dict[str, Array]]:
    """−sg(clip(ρ, 1−ε_low, 1+ε_high))·A·logπ [MiniMax 2025, CISPO, 2506.13585], sg: a constant for the gradient.

    No token loses its gradient: a clipped ratio only bounds it. `own_logprobs`: logπ of the token itself where
    `logprobs` and `old_logprobs` are those of its turn or sequence. Other arguments and results as those of `ppo_clip`.
    """
    logprobs, old_logprobs, advantages = masked_float32(mask, logprobs, old_logprobs, advantages)
    own = logprobs if own_logprobs is None else masked_float32(mask, own_logprobs)[0]
    ratio = _ratio(logprobs, old_logprobs)
    bounded = jnp.clip(ratio, 1.0 - clip_low, 1.0 + clip_high)
    loss = -jax.lax.stop_gradient(bounded) * advantages * own
    return loss, {"ratio": ratio, "clipped": bounded != ratio}


def sapo(
    logprobs: Float[Array, "B T"],
    old_logprobs: Float[Array, "B T"],
    advantages: Float[Array, "B T"],
    *,
    rise: chex.Numeric,
    fall: chex.Numeric,
    mask: Bool[Array, "B T"] | None = None,
) -> tuple[Float[Array, "B T"], dict[str, Array]]:
    """−A·4σ(τ(ρ − 1))/τ, τ = `rise` where A > 0, else `fall` [SAPO 2511.20347]: a soft gate in place of a clip.

    Its gradient at ρ = 1 is the policy gradient's, and falls off on both sides. Other arguments and results as those of
    `ppo_clip`; nothing is clipped.
    """
    logprobs, old_logprobs, advantages = masked_float32(mask, logprobs, old_logprobs, advantages)
    ratio = _ratio(logprobs, old_logprobs)
    tau = jnp.where(advantages > 0, rise, fall)
    loss = -advantages * 4.0 * jax.nn.sigmoid(tau * (ratio - 1.0)) / tau
    return loss, {"ratio": ratio, "clipped": jnp.zeros(ratio.shape, bool)}


def dppo(
    logprobs: Float[Array, "B T"],
    old_logprobs: Float[Array, "B T"],
    advantages: Float[Array, "B T"],
    *,
    clip_low: chex.Numeric,
    clip_high: chex.Numeric,
    mask: Bool[Array, "B T"] | None = None,
) -> tuple[Float[Array, "B T"], dict[str, Array]]:
    """−A·sg(min(ρ, 20))·logπ, 0 where A > 0 and π − π_old > ε_high or A < 0 and π − π_old < −ε_low [DPPO 2602.04879].

    What is bounded is the change of the probability itself (the token's part of the total variation), not its ratio:
    rare tokens may change by large factors, likely ones not. Arguments and results as those of `ppo_clip`.
    """
    logprobs, old_logprobs, advantages = masked_float32(mask, logprobs, old_logprobs, advantages)
    ratio = _ratio(logprobs, old_logprobs)
    moved = jnp.exp(logprobs) - jnp.exp(old_logprobs)
    left = ((advantages > 0) & (moved > clip_high)) | ((advantages < 0) & (moved < -clip_low))
    loss = -advantages * jax.lax.stop_gradient(jnp.minimum(ratio, DPPO_MOST)) * logprobs
    return jnp.where(left, 0.0, loss), {"ratio": ratio, "clipped": left}


def value_loss(
    values: Float[Array, "*shape"],
    old_values: Float[Array, "*shape"],
    returns: Float[Array, "*shape"],
    *,
    clip: chex.Numeric | None,
    mask: Bool[Array, "*shape"] | None = None,
) -> Float[Array, "*shape"]:
    """½·max((V − R)², (clip(V, V_old ± ε_v) − R)²); without `clip` (ε_v), ½·(V − R)² [Schulman 2017]."""
    values, old_values, returns = masked_float32(mask, values, old_values, returns)
    loss = jnp.square(values - returns)
    if clip is not None:
        bounded = jnp.clip(values, old_values - clip, old_values + clip)
        loss = jnp.maximum(loss, jnp.square(bounded - returns))
    return 0.5 * loss


def outcome_loss(
    log_odds: Float[Array, "*shape"], right: Float[Array, "*shape"], *, mask: Bool[Array, "*shape"] | None = None
) -> Float[Array, "*shape"]:
    """Binary cross-entropy −y·log σ(z) − (1 − y)·log(1 − σ(z)) of log-odds z against the outcome y in [0, 1]."""
    log_odds, right = masked_float32(mask, log_odds, right)
    loss = jax.nn.softplus(log_odds) - right * log_odds
    return loss if mask is None else jnp.where(mask, loss, 0.0)


def classification_loss(
    logits: Float[Array, "*shape C"], labels: Int[Array, "*shape"], mask: Bool[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """Cross-entropy −log softmax(logits)[label]; labels outside the mask may be any mark (−100, say).

    A label under the mask that is not a class gives NaN: it stops the run, where a wrapped or cut index would pass.
    """
    chex.assert_equal_shape([labels, mask])
    chex.assert_shape(logits, (*labels.shape, None))
    chex.assert_type([logits, labels, mask], [float, int, bool])
    logits = jnp.where(mask[..., None], logits, 0).astype(jnp.float32)
    is_class = (labels >= 0) & (labels < logits.shape[-1])
    picked = jnp.take_along_axis(logits, jnp.where(is_class, labels, 0)[..., None], axis=-1)[..., 0]
    loss = jax.nn.logsumexp(logits, axis=-1) - picked
    return jnp.where(mask, jnp.where(is_class, loss, jnp.nan), 0.0)
