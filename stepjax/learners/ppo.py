"""The two programs that make PPO of scored responses: credit (rewards to token weights) and update."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, PRNGKeyArray

from stepjax.config import PPOOptions, StreamOptions
from stepjax.credit.streams import Stream, combine
from stepjax.credit.whiten import explained_variance, masked_mean, masked_var
from stepjax.errors import UserError
from stepjax.learners.losses import kl_estimate, masked_sum_count, ppo_clip, value_loss
from stepjax.learners.optimizers import State, abstract_state, apply_gradients
from stepjax.learners.score import response_logprobs, token_values
from stepjax.models import Definition, LanguageModel, ScoreModel
from stepjax.models.definition import Params
from stepjax.parallel import batch_sharding, replicated
from stepjax.programs import Program, abstract
from stepjax.rewards.signals import HostSignals, stream_rewards
from stepjax.trajectory import Trajectory

Metrics = dict[str, Array]


def make_streams(options: Mapping[str, StreamOptions]) -> list[Stream]:
    """The options' streams as the credit room knows them."""
    streams = []
    for name, o in options.items():
        try:
            streams.append(Stream(name, _horizon(o.horizon), o.gamma, o.lam, o.weight, o.whiten, o.critic))
        except ValueError as error:
            raise UserError(f"config.ppo.streams.{name}: {error}") from None
    return streams


def _horizon(text: str) -> str | float:
    """Options are text; a number stays a number."""
    try:
        return float(text)
    except ValueError:
        return text


def credit_program(options: PPOOptions, mesh: Mesh, rows: Trajectory) -> Program:
    """`(trajectory, host signals) -> (trajectory, metrics)`: rewards, advantages, returns, weights.

    `rows` is the abstract trajectory that the score program returns.
    """
    streams = make_streams(options.streams)

    def credit(rows: Trajectory, host: HostSignals) -> tuple[Trajectory, Metrics]:
        assert rows.steps is not None
        mask = rows.mask
        rewards = stream_rewards(rows, host, options.streams)
        values = jnp.zeros_like(rewards) if rows.values is None else rows.values
        bootstrap = jnp.zeros(rewards.shape[:2]) if rows.bootstrap is None else rows.bootstrap
        found = combine(
            streams,
            rewards.swapaxes(0, 1),
            values.swapaxes(0, 1),
            mask,
            rows.steps.end,
            bootstrap=bootstrap.swapaxes(0, 1),
        )
        metrics = _describe(rows, streams, rewards)
        for i, stream in enumerate(streams):
            metrics[f"advantage_std/{stream.name}"] = jnp.sqrt(masked_var(found.advantages[i], mask))
            if stream.critic:
                metrics[f"explained_variance/{stream.name}"] = explained_variance(values[:, i], found.returns[i], mask)
        rows = dataclasses.replace(
            rows,
            values=values,
            bootstrap=bootstrap,
            rewards=rewards,
            advantages=found.advantages.swapaxes(0, 1),
            returns=found.returns.swapaxes(0, 1),
            weight=found.weight,
        )
        return rows, metrics

    by_row = batch_sharding(mesh)
    b, t = rows.tokens.shape
    host = {
        "rating": jax.ShapeDtypeStruct((b, t), jnp.float32, sharding=by_row),
        "correct": jax.ShapeDtypeStruct((b,), jnp.bool_, sharding=by_row),
    }
    inputs = (abstract(rows, by_row), host)
    return Program("credit", credit, mesh=mesh, inputs=inputs, out_shardings=(by_row, replicated(mesh)))


def _describe(rows: Trajectory, streams: list[Stream], rewards: Array) -> Metrics:
    """What is worth plotting of a scored batch."""
    assert rows.steps is not None and rows.entropy is not None
    assert rows.old_logprobs is not None and rows.ref_logprobs is not None
    mask, ends = rows.mask, rows.steps.end
    gap = jnp.abs(rows.logprobs - rows.old_logprobs)
    metrics = {f"reward/{s.name}": jnp.mean(jnp.sum(rewards[:, i], axis=-1)) for i, s in enumerate(streams)}
    metrics |= {
        "kl/reference": masked_mean(kl_estimate(rows.old_logprobs, rows.ref_logprobs, "k3", mask=mask), mask),
        "entropy": masked_mean(rows.entropy, mask),
        "length/tokens": jnp.mean(rows.response_length.astype(jnp.float32)),
        "length/steps": jnp.mean(jnp.sum(ends, axis=-1).astype(jnp.float32)),
        "length/truncated": jnp.mean(~rows.finished),
        "mismatch/mean": masked_mean(gap, mask),
        "mismatch/max": jnp.max(jnp.where(mask, gap, 0.0)),
    }
    if rows.prm is not None:
        best = jnp.argmax(rows.prm, axis=-1)
        for label, name in enumerate(("bad", "neutral", "good")):
            metrics[f"prm/{name}"] = masked_mean((best == label).astype(jnp.float32), ends)
    return metrics


def update_program(
    options: PPOOptions,
    policy: Definition[LanguageModel],
    critic: Definition[ScoreModel] | None,
    optimizers: Mapping[str, optax.GradientTransformation],
    mesh: Mesh,
    rows: Trajectory,
) -> Program:
    """`(state, trajectory, key, iteration) -> (state, metrics)`: all passes and minibatches of a round in one program.

    `state` is `{"policy": …, "critic": …}` (donated); `rows` the abstract trajectory that the credit program returns.
    Losses are means over a minibatch's response tokens; the metrics are means over the minibatches.
    """
    streams = make_streams(options.streams)
    size = rows.tokens.shape[0]
    if size % options.minibatches:
        raise UserError(
            f"config.ppo.minibatches: {options.minibatches} does not divide the {size} responses of a round "
            "(ppo.prompts × ppo.samples)"
        )

    def policy_loss(params: Params, batch: Trajectory) -> tuple[Array, Metrics]:
        assert batch.old_logprobs is not None and batch.ref_logprobs is not None and batch.weight is not None
        mask = batch.mask
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
        reference = kl_estimate(logprobs, batch.ref_logprobs, options.kl_kind, mask=mask)
        total, tokens = masked_sum_count(losses + options.kl * reference - options.entropy * entropy, mask)
        metrics = {
            "policy/loss": masked_mean(losses, mask),
            "policy/clip_fraction": masked_mean(aux["clipped"].astype(jnp.float32), mask),
            "policy/ratio_max": jnp.max(jnp.where(mask, aux["ratio"], 0.0)),
            "kl/update": masked_mean(kl_estimate(batch.old_logprobs, logprobs, "k3", mask=mask), mask),
        }
        return total / jnp.maximum(tokens, 1.0), metrics

    def critic_loss(params: Params, batch: Trajectory) -> tuple[Array, Metrics]:
        assert critic is not None and batch.values is not None and batch.returns is not None
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

    def update(state: State, rows: Trajectory, key: PRNGKeyArray, iteration: Array) -> tuple[State, Metrics]:
        key = jax.random.fold_in(key, iteration)

        def minibatch(state: State, chosen: Array) -> tuple[State, Metrics]:
            batch = jax.tree.map(lambda x: x[chosen], rows)
            new: State = {}
            metrics: Metrics = {}
            losses: list[tuple[str, Any]] = [("policy", policy_loss)]
            if critic is not None:
                losses.append(("critic", critic_loss))
            for role, loss in losses:
                (_, found), gradients = jax.value_and_grad(loss, has_aux=True)(state[role]["params"], batch)
                new[role], norm = apply_gradients(state[role], gradients, optimizers[role])
                metrics |= {**found, f"grad_norm/{role}": norm}
            return new, metrics

        orders = jax.vmap(lambda k: jax.random.permutation(k, size))(jax.random.split(key, options.epochs))
        chosen = orders.reshape(options.epochs * options.minibatches, -1)
        state, metrics = jax.lax.scan(minibatch, state, chosen)
        return state, {k: jnp.max(v) if k.endswith("_max") else jnp.mean(v) for k, v in metrics.items()}

    like = abstract_ppo_state(policy, critic, optimizers, mesh)
    whole = replicated(mesh)
    inputs = (
        like,
        abstract(rows, batch_sharding(mesh)),
        abstract(jax.eval_shape(lambda: jax.random.key(0)), whole),
        jax.ShapeDtypeStruct((), jnp.int32, sharding=whole),
    )
    shardings = jax.tree.map(lambda x: x.sharding, like)
    return Program("update", update, mesh=mesh, inputs=inputs, donate=(0,), out_shardings=(shardings, whole))


def abstract_ppo_state(
    policy: Definition, critic: Definition | None, optimizers: Mapping[str, optax.GradientTransformation], mesh: Mesh
) -> State:
    roles = {"policy": policy} | ({} if critic is None else {"critic": critic})
    return {role: abstract_state(definition, optimizers[role], mesh) for role, definition in roles.items()}
