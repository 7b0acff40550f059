"""Reward streams on a trajectory: the shaped rewards of each signal, and its inputs from the host."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from stepjax.config import StreamOptions
from stepjax.credit.estimators import effective
from stepjax.credit.step_sizes import step_sizes
from stepjax.rewards.hosted import TextReward
from stepjax.rewards.shaping_chain import shape_rewards
from stepjax.rewards.signal import CORRECT, RATING, HostSignals
from stepjax.rewards.signals import SIGNALS
from stepjax.trajectory import Trajectory

Streams = Mapping[str, StreamOptions]


def has_critic(options: StreamOptions) -> bool:
    """Whether a stream has a value head: its baseline is a critic and `critic` is True."""
    follows = bool(options.times or options.join)
    return options.critic and effective(options.estimator, baseline=options.baseline, follows=follows).critic


def is_learned(options: StreamOptions) -> bool:
    """Whether a stream's rewards come from the process reward model."""
    return SIGNALS[options.signal].learned


def reads_prm(options: StreamOptions) -> bool:
    """Whether a stream needs the process reward model: for its signal, or as its critic."""
    return is_learned(options) or (has_critic(options) and options.critic_trunk == "prm")


def reads_implicit(streams: Streams) -> bool:
    """Whether any stream's rewards are those of the implicit reward model."""
    return any(SIGNALS[options.signal].implicit for options in streams.values())


def reads_environment(streams: Streams) -> list[str]:
    """Names of the streams whose rewards are those of an environment over turns."""
    return [name for name, options in streams.items() if SIGNALS[options.signal].environment]


def reading(streams: Streams, figure: str) -> list[str]:
    """Names of the streams whose signal reads a figure of the host."""
    return [name for name, options in streams.items() if figure in SIGNALS[options.signal].host]


def host_figures(streams: Streams) -> list[str]:
    """Names of the host's figures, one per response, that these streams read besides those of every run."""
    asked = [figure for options in streams.values() for figure in SIGNALS[options.signal].host]
    return [figure for figure in dict.fromkeys(asked) if figure not in (RATING, CORRECT)]


def make_text_reward(name: str, options: StreamOptions) -> TextReward | None:
    """The text reward of the stream `name`; None where its signal is not rated from texts.

    Raises:
      UserError: its options are invalid, such as a pattern that is not a regular expression.
    """
    make = SIGNALS[options.signal].text_reward
    return None if make is None else make(options, f"config.ppo.streams.{name}")


def scored(rows: Trajectory, options: StreamOptions) -> Bool[Array, "B T"]:
    """The tokens that carry a stream's scores, a score of 0 included: what a shaping works on."""
    return SIGNALS[options.signal].place_of(options).tokens(rows)


def stream_rewards(rows: Trajectory, host: HostSignals, streams: Streams) -> Float[Array, "B N T"]:
    """The rewards of every stream, shaped, in the streams' order."""
    found = []
    for name, options in streams.items():
        own = {**host, "text_reward": host[f"stream/{name}"]} if f"stream/{name}" in host else host
        rewards = SIGNALS[options.signal].rewards(rows, own, options)
        if options.shaping:
            assert rows.steps is not None
            where, sizes = f"config.ppo.streams.{name}", step_sizes(rows.mask, rows.steps.end)
            rewards = shape_rewards(rewards, scored(rows, options), options.shaping, where, sizes=sizes)
        found.append(rewards)
    return jnp.stack(found, axis=1)


def abstract_host_signals(streams: Streams, rows: int, width: int, sharding: Any) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of the host signals that these streams read, for B = `rows` and T = `width`."""
    shapes: dict[str, tuple[tuple[int, ...], Any]] = {
        RATING: ((rows, width), jnp.float32),
        CORRECT: ((rows,), jnp.bool_),
    }
    shapes |= dict.fromkeys(host_figures(streams), ((rows,), jnp.float32))
    shapes |= {
        f"stream/{name}": ((rows, width), jnp.float32)
        for name, options in streams.items()
        if SIGNALS[options.signal].text_reward is not None
    }
    return {name: jax.ShapeDtypeStruct(*leaf, sharding=sharding) for name, leaf in shapes.items()}
