"""Signals: rewards and their tokens. Each turns a scored trajectory into one reward per token."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from stepjax.config import StreamOptions
from stepjax.credit.divergence import kl_estimate
from stepjax.errors import UserError
from stepjax.rewards.check import check_stream
from stepjax.rewards.hosted import make_text_reward
from stepjax.rewards.length import length_rewards
from stepjax.rewards.places import last_token, rated_ends, rated_response
from stepjax.rewards.shaping_chain import shape_rewards
from stepjax.trajectory import Trajectory

HostSignals = Mapping[str, Array]
"""Signals that the host computes, by name:

  rating: float32[B, T], +1, 0, −1 of the task's exact verifier at step ends, 0 elsewhere.
  correct: bool[B], whether the graded answer is right.
  limit_kept: float32[B], +1 where a step limit stated in the prompt was kept, −1 where it was broken, 0 where there is
    none or a truncation left it open. Only where a stream asks for it.
  stream/NAME: float32[B, T], the rewards of the stream NAME at step ends, for signals that are rated from texts.
  text_reward: of these, the one of the stream whose signal reads it.
"""

Signal = Callable[[Trajectory, HostSignals, StreamOptions], Float[Array, "B T"]]


def prm(rows: Trajectory, host: HostSignals, options: StreamOptions) -> Float[Array, "B T"]:
    """Expected reward of each step under the learned model, at the step's last token.

    Its classes are bad, neutral and good, or bad and good; a single output is the reward itself.
    """
    return jnp.where(rated_ends(rows), _worth(rows, options), 0.0)


def orm(rows: Trajectory, host: HostSignals, options: StreamOptions) -> Float[Array, "B T"]:
    """The learned reward of only the last step, an outcome reward model; a truncated response has no outcome yet."""
    return jnp.where(rated_response(rows), _worth(rows, options), 0.0)


def _worth(rows: Trajectory, options: StreamOptions) -> Float[Array, "B T"]:
    assert rows.prm is not None
    class_values = {1: [1.0], 2: [options.bad, options.good], 3: [options.bad, options.neutral, options.good]}
    return rows.prm @ jnp.array(class_values[rows.prm.shape[-1]], jnp.float32)


def verifier(rows: Trajectory, host: HostSignals, options: StreamOptions) -> Float[Array, "B T"]:
    """Reward of each step by the task's exact rating, at the step's last token."""
    rating = host["rating"]
    worth = jnp.where(rating > 0, options.good, jnp.where(rating < 0, options.bad, options.neutral))
    return jnp.where(rated_ends(rows), worth, 0.0)


def outcome(rows: Trajectory, host: HostSignals, options: StreamOptions) -> Float[Array, "B T"]:
    """Reward of the graded answer at the response's last token; a truncated response has no outcome yet."""
    worth = jnp.where(host["correct"], options.good, options.bad)[:, None]
    return jnp.where(rated_response(rows), worth, 0.0)


def finish(rows: Trajectory, host: HostSignals, options: StreamOptions) -> Float[Array, "B T"]:
    """Reward of a response that ended by itself (good) or was truncated (bad), at its last token.

    Best without a critic: a truncated response would be bootstrapped in addition to its reward here.
    """
    worth = jnp.where(rows.finished, options.good, options.bad)[:, None]
    return jnp.where(last_token(rows), worth, 0.0)


def kl(rows: Trajectory, host: HostSignals, options: StreamOptions) -> Float[Array, "B T"]:
    """Minus an estimate of the divergence from the reference on every token; k1: log π_ref − log π."""
    assert rows.old_logprobs is not None and rows.ref_logprobs is not None
    return -kl_estimate(rows.old_logprobs, rows.ref_logprobs, options.kl_kind, mask=rows.mask)


def length(rows: Trajectory, host: HostSignals, options: StreamOptions) -> Float[Array, "B T"]:
    """Minus the cost of the tokens by which a step (or the response) leaves its band, at its last token."""
    return length_rewards(rows, per=options.per, least=options.least, most=options.most, token_cost=options.token_cost)


def limit(rows: Trajectory, host: HostSignals, options: StreamOptions) -> Float[Array, "B T"]:
    """Reward of keeping the number of steps that the prompt allows, at the response's last token."""
    kept = host["limit_kept"]
    worth = jnp.where(kept > 0, options.good, jnp.where(kept < 0, options.bad, 0.0))[:, None]
    return jnp.where(last_token(rows), worth, 0.0)


def text_reward(rows: Trajectory, host: HostSignals, options: StreamOptions) -> Float[Array, "B T"]:
    """The host's rewards, but for a step that was cut off and for the outcome of a truncated response."""
    return jnp.where(rated_ends(rows), host["text_reward"], 0.0)


SIGNALS: dict[str, Signal] = {
    "prm": prm,
    "orm": orm,
    "verifier": verifier,
    "outcome": outcome,
    "finish": finish,
    "kl": kl,
    "length": length,
    "limit": limit,
    "format": text_reward,
    "function": text_reward,
}

LEARNED = ("prm", "orm")
"""The signals that read the process reward model."""


def reads_prm(options: StreamOptions) -> bool:
    """Whether a stream needs the process reward model: for its signal, or as its critic."""
    return options.signal in LEARNED or (
        options.critic and options.estimator == "gae" and options.critic_trunk == "prm"
    )


def scored(rows: Trajectory, options: StreamOptions) -> Bool[Array, "B T"]:
    """The tokens that carry a stream's scores, a score of 0 included: what a shaping works on."""
    if options.signal == "kl":
        return rows.mask
    if options.signal in ("limit", "finish"):
        return last_token(rows)
    if options.signal == "length":
        assert rows.steps is not None
        return rows.steps.end if options.per == "step" else last_token(rows)
    whole = options.signal in ("outcome", "orm") or (options.signal == "format" and options.per == "response")
    return rated_response(rows) if whole else rated_ends(rows)


def stream_rewards(rows: Trajectory, host: HostSignals, streams: Mapping[str, StreamOptions]) -> Float[Array, "B N T"]:
    """The rewards of every stream, shaped, in the streams' order."""
    found = []
    for name, options in streams.items():
        own = {**host, "text_reward": host[f"stream/{name}"]} if f"stream/{name}" in host else host
        rewards = SIGNALS[options.signal](rows, own, options)
        if options.shaping:
            rewards = shape_rewards(rewards, scored(rows, options), options.shaping, f"config.ppo.streams.{name}")
        found.append(rewards)
    return jnp.stack(found, axis=1)


def abstract_host_signals(
    streams: Mapping[str, StreamOptions], rows: int, width: int, sharding: Any
) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of the host signals that these streams read, for B = `rows` and T = `width`."""
    shapes: dict[str, tuple[tuple[int, ...], Any]] = {
        "rating": ((rows, width), jnp.float32),
        "correct": ((rows,), jnp.bool_),
    }
    if any(o.signal == "limit" for o in streams.values()):
        shapes["limit_kept"] = ((rows,), jnp.float32)
    shapes |= {
        f"stream/{n}": ((rows, width), jnp.float32) for n, o in streams.items() if SIGNALS[o.signal] is text_reward
    }
    return {name: jax.ShapeDtypeStruct(*leaf, sharding=sharding) for name, leaf in shapes.items()}


def check_signals(streams: Mapping[str, StreamOptions]) -> None:
    """UserError for the first stream whose signal does not exist, or whose options do not fit it."""
    if not streams:
        raise UserError("config.ppo.streams: name at least one reward stream")
    for name, options in streams.items():
        check_stream(name, options, SIGNALS)
        make_text_reward(name, options)
