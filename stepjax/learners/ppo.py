"""The credit program: from the rewards of scored responses to the weight of each token (which `update.py` uses)."""

import dataclasses
import itertools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array

from stepjax.config import PPOOptions, StreamOptions
from stepjax.config.streams import check_unread
from stepjax.credit.divergence import LOG_RATIO_LIMIT, kl_estimate
from stepjax.credit.estimators import ESTIMATORS
from stepjax.credit.states import prefix_states
from stepjax.credit.stream import Stream, check_links
from stepjax.credit.streams import Credit, combine
from stepjax.credit.whiten import correlation, explained_variance, masked_mean, masked_var, whiten
from stepjax.errors import UserError
from stepjax.learners.objectives import Metrics
from stepjax.learners.reward_spread import reward_spread
from stepjax.learners.train_on import trained_tokens
from stepjax.measures.step_classes import CLASSES
from stepjax.models import ValueHead
from stepjax.parallel import batch_sharding, replicated
from stepjax.programs import Program, abstract
from stepjax.rewards.reward_streams import abstract_host_signals, scored, stream_rewards
from stepjax.rewards.signal import CORRECT, HostSignals
from stepjax.trajectory import Trajectory

CREDITED = [field.name for field in dataclasses.fields(Stream) if field.name not in ("name", "horizon")]
"""The options of a stream that say how it is credited, by the names that `stepjax.credit` has for them."""


def make_streams(options: Mapping[str, StreamOptions]) -> list[Stream]:
    """The options' streams as `stepjax.credit` defines them."""
    streams = []
    for name, o in options.items():
        check_unread(o, "estimator", ESTIMATORS, f"config.ppo.streams.{name}")
        shared = {field: getattr(o, field) for field in CREDITED}
        try:
            streams.append(Stream(name, _horizon(o.horizon), **shared))
        except ValueError as error:
            raise UserError(f"config.ppo.streams.{name}: {error}") from None
    try:
        check_links(streams)
    except ValueError as error:
        raise UserError(f"config.ppo.streams: {error}") from None
    return streams


def value_heads(options: Mapping[str, StreamOptions]) -> tuple[ValueHead, ...]:
    """How each stream's values are computed."""
    heads = []
    for stream, o in zip(make_streams(options), options.values(), strict=True):
        trunk = o.critic_trunk if stream.critic else "none"
        heads.append(ValueHead(stream.name, trunk, (o.bad, o.neutral, o.good) if trunk == "prm" else ()))
    return tuple(heads)


def adaptive_weights(options: Mapping[str, StreamOptions]) -> dict[str, StreamOptions]:
    """The streams whose weight is adapted to a divergence from the reference."""
    return {name: o for name, o in options.items() if o.kl_target}


def _horizon(text: str) -> str | float:
    """A horizon as an option, which is text: a number becomes a float."""
    try:
        return float(text)
    except ValueError:
        return text


def check_groups(options: PPOOptions) -> None:
    """UserError where a stream compares the responses to a problem and there is only one."""
    if options.samples > 1:
        return
    for stream in make_streams(options.streams):
        if stream.rule.compares or stream.prompt_value == "others":
            what = f"estimator {stream.estimator!r}" if ESTIMATORS[stream.estimator].compares else "baseline"
            raise UserError(
                f"config.ppo.samples: must be 2 or more, not {options.samples}: the {what} of the "
                f"stream {stream.name!r} compares the responses to a problem with each other"
            )
    if options.refill:
        raise UserError("config.ppo.refill: ppo.samples must be 2 or more responses to a problem, not 1")
    if "informative" in options.train_on:
        raise UserError("config.ppo.train_on=informative: ppo.samples must be 2 or more responses to a problem, not 1")


def credit_program(options: PPOOptions, mesh: Mesh, rows: Trajectory) -> Program:
    """`(trajectory, host signals) -> (trajectory, metrics)`: rewards, advantages, returns, weights.

    `rows` is the abstract trajectory that the score program returns. Besides the host's signals the second argument has
    `weight/NAME`, float32[], for each stream whose weight is adapted.
    """
    streams = make_streams(options.streams)
    check_groups(options)
    by_row = batch_sharding(mesh)
    b, t = rows.tokens.shape
    weights = {
        f"weight/{name}": jax.ShapeDtypeStruct((), jnp.float32, sharding=replicated(mesh))
        for name in adaptive_weights(options.streams)
    }
    inputs = (abstract(rows, by_row), abstract_host_signals(options.streams, b, t, by_row) | weights)

    def credit(rows: Trajectory, host: HostSignals) -> tuple[Trajectory, Metrics]:
        return credited(options, streams, rows, host)

    out, grows = (by_row, replicated(mesh)), "config.ppo.max_new_tokens or config.ppo.prompts"
    return Program("credit", credit, mesh=mesh, inputs=inputs, out_shardings=out, grows_with=grows)


def credited(
    options: PPOOptions, streams: list[Stream], rows: Trajectory, host: HostSignals
) -> tuple[Trajectory, Metrics]:
    """The credit of a scored batch, and its figures."""
    assert rows.steps is not None
    mask = rows.mask
    rewards = stream_rewards(rows, host, options.streams)
    values = jnp.zeros_like(rewards) if rows.values is None else rows.values
    bootstrap = jnp.zeros(rewards.shape[:2]) if rows.bootstrap is None else rows.bootstrap
    goods, bads, first = (
        np.asarray([getattr(o, field) for o in options.streams.values()], np.float32)[:, None]
        for field in ("good", "bad", "first")
    )
    trained = trained_tokens(options, rows, host[CORRECT])
    states = any(stream.among == "state" for stream in streams)
    found = combine(
        streams,
        rewards.swapaxes(0, 1),
        values.swapaxes(0, 1),
        mask,
        rows.steps.end,
        bootstrap=bootstrap.swapaxes(0, 1),
        turn_end=rows.turn_end,
        scored=jnp.stack([scored(rows, o) for o in options.streams.values()]),
        first=jnp.broadcast_to(first, (len(streams), mask.shape[0])),
        outcome=jnp.where(host[CORRECT], goods, bads),
        finished=rows.finished,
        correct=host[CORRECT],
        logprobs=rows.old_logprobs,
        state=prefix_states(rows.tokens, rows.segments > 0, group=options.samples) if states else None,
        trained=trained,
        group=options.samples,
        weight={name: host[f"weight/{name}"] for name in adaptive_weights(options.streams)},
    )
    metrics = _describe(rows, streams, rewards) | _describe_credit(streams, found, values.swapaxes(0, 1), mask)
    metrics |= reward_spread([s.name for s in streams], rewards, options.samples)
    metrics |= {name: x for name, x in host.items() if name.startswith("weight/")}
    weight = whiten(found.weight, mask if trained is None else trained) if options.whiten else found.weight
    if trained is not None:
        weight = jnp.where(trained, weight, 0.0)
        metrics["train_on/fraction"] = masked_mean(trained.astype(jnp.float32), mask)
    if options.importance_cap:
        factor, capped = importance(rows, options.importance_cap)
        weight = weight * factor
        metrics["importance/mean"] = masked_mean(factor, mask)
        metrics["importance/capped"] = masked_mean(capped.astype(jnp.float32), mask)
    rows = dataclasses.replace(
        rows,
        values=values,
        bootstrap=bootstrap,
        rewards=rewards,
        advantages=found.advantages.swapaxes(0, 1),
        returns=found.returns.swapaxes(0, 1),
        policy_weight=weight,
        trained=trained,
    )
    return rows, metrics


def importance(rows: Trajectory, cap: float) -> tuple[Array, Array]:
    """min(π_learner / π_sampler, cap) of each response token, and whether it was cut [Ionides 2008]; 1 elsewhere.

    It is not 1 where the rollout is older than the learner's policy, where its arithmetic differs (another precision,
    an int8 cache), or where filters raised the probabilities of what they keep and that is not recorded (`ppo.replay`).
    """
    assert rows.old_logprobs is not None
    ratio = jnp.exp(jnp.clip(rows.old_logprobs - rows.logprobs, -LOG_RATIO_LIMIT, LOG_RATIO_LIMIT))
    return jnp.where(rows.mask, jnp.minimum(ratio, cap), 1.0), rows.mask & (ratio > cap)


def _describe_credit(streams: list[Stream], found: Credit, values: Array, mask: Array) -> Metrics:
    """Each stream's advantages (whitened where asked) and returns over the tokens; the correlations of two streams'."""
    metrics = {}
    for i, stream in enumerate(streams):
        for kind, x in (("advantage", found.advantages[i]), ("return", found.returns[i])):
            metrics[f"{kind}_mean/{stream.name}"] = masked_mean(x, mask)
            metrics[f"{kind}_std/{stream.name}"] = jnp.sqrt(masked_var(x, mask))
        if stream.critic:
            metrics[f"explained_variance/{stream.name}"] = explained_variance(values[i], found.returns[i], mask)
    for (i, a), (j, b) in itertools.combinations(enumerate(streams), 2):
        metrics[f"advantage_corr/{a.name}:{b.name}"] = correlation(found.advantages[i], found.advantages[j], mask)
    return metrics


def _describe(rows: Trajectory, streams: list[Stream], rewards: Array) -> Metrics:
    """Figures of a scored batch for the metrics."""
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
        for label, name in enumerate(CLASSES):
            metrics[f"prm/{name}"] = masked_mean((best == label).astype(jnp.float32), ends)
    return metrics
