"""What policy and critic minimise over a minibatch, with the figures that are logged of it."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array

from stepjax.config import PPOOptions
from stepjax.credit.streams import Stream
from stepjax.credit.whiten import masked_mean
from stepjax.learners.losses import kl_estimate, ppo_clip, reinforce, value_loss
from stepjax.learners.reduce import reduced_mean
from stepjax.learners.score import response_logprobs, token_values
from stepjax.models import Definition, LanguageModel, ScoreModel
from stepjax.models.definition import Params
from stepjax.trajectory import Trajectory

Metrics = dict[str, Array]


def policy_objective(
    options: PPOOptions,
    policy: Definition[LanguageModel],
    params: Params,
    batch: Trajectory,
    *,
    coefficient: Array | float,
) -> tuple[Array, Metrics]:
    """Mean over `options.reduce` of: policy loss + coefficient × divergence from the reference − entropy bonus."""
    assert batch.old_logprobs is not None and batch.ref_logprobs is not None and batch.weight is not None
    assert batch.steps is not None
    mask, end = batch.mask, batch.steps.end
    logprobs, entropy = response_logprobs(policy.bind(params), batch, temperature=options.temperature)
    losses, aux = ppo_clip(
        logprobs,
        batch.old_logprobs,
        batch.weight,
        clip_low=options.clip_low,
        clip_high=options.clip_high,
        dual_clip=options.dual_clip or None,
        mask=mask,
    )
    if options.loss == "reinforce":  # the ratio is still watched
        losses, aux["clipped"] = reinforce(logprobs, batch.weight, mask=mask), jnp.zeros_like(mask)
    reference = kl_estimate(logprobs, batch.ref_logprobs, options.kl_kind, mask=mask)
    metrics = {
        "policy/loss": reduced_mean(losses, mask, end, options.reduce),
        "policy/clip_fraction": masked_mean(aux["clipped"].astype(jnp.float32), mask),
        "policy/ratio_max": jnp.max(jnp.where(mask, aux["ratio"], 0.0)),
        "kl/update": masked_mean(kl_estimate(batch.old_logprobs, logprobs, "k3", mask=mask), mask),
    }
    if options.mean_ratio_guard:
        metrics["policy/ratio_mean"] = masked_mean(aux["ratio"], mask)
    losses = losses + coefficient * reference - options.entropy * entropy
    return reduced_mean(losses, mask, end, options.reduce), metrics


def critic_objective(
    options: PPOOptions, streams: Sequence[Stream], critic: Definition[ScoreModel], params: Params, batch: Trajectory
) -> tuple[Array, Metrics]:
    """Sum over the streams that have a critic of the mean value loss over tokens."""
    assert batch.values is not None and batch.returns is not None
    values, _ = token_values(critic.bind(params), batch)
    total, metrics = jnp.zeros(()), {}
    for i, stream in enumerate(streams):
        if stream.critic:
            losses = value_loss(
                values[:, i],
                batch.values[:, i],
                batch.returns[:, i],
                clip=options.value_clip or None,
                mask=batch.mask,
            )
            metrics[f"value_loss/{stream.name}"] = masked_mean(losses, batch.mask)
            total += metrics[f"value_loss/{stream.name}"]
    return total, metrics
