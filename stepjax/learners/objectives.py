"""Objectives of policy and critic over a minibatch, with the logged figures.

Both are plain sums over tokens of numbers that were divided beforehand (by `loss_weight`, `token_weight`): so is the
sum over the micro-batches of a minibatch, however its responses are packed.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from stepjax.config import PPOOptions
from stepjax.credit.divergence import kl_estimate
from stepjax.credit.streams import Stream
from stepjax.learners.losses import value_loss
from stepjax.learners.packing import PackedRows, Packing, over_micro_batches
from stepjax.learners.policy_losses import policy_losses, ratio_starts
from stepjax.learners.reduce import loss_weights
from stepjax.learners.score import response_logprobs
from stepjax.models import Definition, LanguageModel, ScoreModel
from stepjax.models.definition import Params, stacked
from stepjax.trajectory import Trajectory

Metrics = dict[str, Array]


def objective_columns(
    options: PPOOptions, streams: Sequence[Stream], rows: Trajectory, chosen: Array
) -> dict[str, Array]:
    """Inputs of the objectives besides tokens, `[B, T]` each.

    `loss_weight`: of each token in the mean over `options.reduce` of the minibatch of the rows `chosen`, 0 for tokens
    that do not train; `token_weight`: the same, over all of its tokens; `ratio_start`: where a ratio of many tokens
    begins.
    """
    assert rows.old_logprobs is not None and rows.ref_logprobs is not None and rows.policy_weight is not None
    assert rows.steps is not None
    mask, end = rows.mask, rows.steps.end
    trained = mask if rows.trained is None else rows.trained
    longest = options.max_new_tokens
    weights, _ = loss_weights(trained, end, options.reduce, longest=longest)
    inside = jnp.zeros(mask.shape[0], bool).at[chosen].set(True)[:, None]
    _, units = loss_weights(trained & inside, end, options.reduce, rows=chosen.shape[0], longest=longest)
    tokens = jnp.sum(mask & inside, dtype=jnp.int32).astype(jnp.float32)
    columns = {
        "old_logprobs": rows.old_logprobs,
        "ref_logprobs": rows.ref_logprobs,
        "policy_weight": rows.policy_weight,
        "loss_weight": weights / jnp.maximum(units, 1.0),
        "token_weight": mask / jnp.maximum(tokens, 1.0),
    }
    starts = ratio_starts(options, rows)
    if starts is not None:
        columns["ratio_start"] = starts.astype(jnp.float32)
    for i, stream in enumerate(streams):
        if stream.critic:
            assert rows.values is not None and rows.returns is not None
            columns |= {f"values/{i}": rows.values[:, i], f"returns/{i}": rows.returns[:, i]}
    return columns


def _sum(x: Array, weight: Array, mask: Array) -> Array:
    return jnp.sum(jnp.where(mask, x, 0).astype(jnp.float32) * jnp.where(mask, weight, 0.0))


def policy_objective(
    options: PPOOptions,
    policy: Definition[LanguageModel],
    params: Params,
    batch: PackedRows,
    *,
    coefficient: Array | float,
) -> tuple[Array, Metrics]:
    """Mean over `options.reduce` of: policy loss + coefficient × divergence from the reference − entropy bonus."""
    mask, loss_weight, token_weight = batch.mask, batch.columns["loss_weight"], batch.columns["token_weight"]
    old, reference = batch.columns["old_logprobs"], batch.columns["ref_logprobs"]
    model, asked = policy.bind(params), options.entropy != 0
    logprobs, entropy = response_logprobs(model, batch, temperature=options.temperature, entropy=asked)
    losses, aux = policy_losses(options, logprobs, batch)
    divergence = kl_estimate(logprobs, reference, options.kl_kind, mask=mask)
    metrics = {
        "policy/loss": _sum(losses, loss_weight, mask),
        "policy/clip_fraction": _sum(aux["clipped"], token_weight, mask),
        "policy/ratio_max": jnp.max(jnp.where(mask, aux["ratio"], 0.0)),
        "kl/update": _sum(kl_estimate(old, logprobs, "k3", mask=mask), token_weight, mask),
    }
    if options.mean_ratio_guard:
        metrics["policy/ratio_mean"] = _sum(aux["ratio"], token_weight, mask)
    return _sum(losses + coefficient * divergence - options.entropy * entropy, loss_weight, mask), metrics


def critic_objective(
    options: PPOOptions, streams: Sequence[Stream], critic: Definition[ScoreModel], params: Params, batch: PackedRows
) -> tuple[Array, Metrics]:
    """Sum over the streams that have a critic of the mean value loss over tokens."""
    values = critic.bind(params)(*batch.read, parts=batch.parts)
    total, metrics = jnp.zeros(()), {}
    for i, stream in enumerate(streams):
        if stream.critic:
            losses = value_loss(
                values[..., i],
                batch.columns[f"values/{i}"],
                batch.columns[f"returns/{i}"],
                clip=options.value_clip or None,
                mask=batch.mask,
            )
            metrics[f"value_loss/{stream.name}"] = _sum(losses, batch.columns["token_weight"], batch.mask)
            total += metrics[f"value_loss/{stream.name}"]
    return total, metrics


def joined(metrics: Metrics, more: Metrics) -> Metrics:
    """Figures of two micro-batches as those of both: maxima of maxima, sums of sums."""
    return {k: jnp.maximum(v, more[k]) if k.endswith("_max") else v + more[k] for k, v in metrics.items()}


def summed_gradients(
    objectives: Mapping[str, Any], params: Mapping[str, Params], packing: Packing, batch: Callable[[Array], PackedRows]
) -> tuple[dict[str, Params], Metrics]:
    """Gradients of the roles over the micro-batches of a packing, in the parameters' dtypes, and its metrics.

    Args:
      objectives: of each role `(params, micro-batch) -> (loss, metrics)`.
      params: by role, stacks of layers perhaps taken apart; the gradients have them stacked.
      batch: micro-batch i. Its gradients are summed in float32.
    """

    def descend(i: Array) -> tuple[dict[str, Params], Metrics]:
        rows = batch(i)
        gradients: dict[str, Params] = {}
        metrics: Metrics = {}
        for role, objective in objectives.items():
            (_, found), gradients[role] = jax.value_and_grad(objective, has_aux=True)(params[role], rows)
            metrics |= found
        return gradients, metrics

    def add(i: Array, so_far: Any) -> Any:
        gradients, metrics = descend(i)
        total = jax.tree.map(lambda x, y: x + y.astype(x.dtype), so_far[0], gradients)
        return total, joined(so_far[1], metrics)

    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), jax.eval_shape(descend, jnp.zeros((), jnp.int32)))
    gradients, metrics = over_micro_batches(packing, add, nothing)
    cast = {
        role: jax.tree.map(lambda g, p: g.astype(p.dtype), gradient, params[role])
        for role, gradient in gradients.items()
    }
    return {role: stacked(gradient) for role, gradient in cast.items()}, metrics
