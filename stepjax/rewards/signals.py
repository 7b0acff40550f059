"""Signals: what was earned, on which token. Each turns a scored trajectory into one reward a token."""

from collections.abc import Callable, Mapping

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from stepjax.config import StreamOptions
from stepjax.errors import UserError
from stepjax.trajectory import Trajectory

HostSignals = Mapping[str, Array]
"""What only the host can judge: `rating` float32[B, T] (+1, 0, −1 at step ends, 0 elsewhere) and `correct` bool[B]."""

Signal = Callable[[Trajectory, HostSignals, StreamOptions], Float[Array, "B T"]]


def judged_ends(rows: Trajectory) -> Bool[Array, "B T"]:
    """Last tokens of the steps that may be judged: the step that a truncation cut off is not one of them."""
    assert rows.steps is not None
    cut = ~rows.finished[:, None] & (rows.columns == rows.last[:, None])
    return rows.steps.end & ~cut


def prm(rows: Trajectory, host: HostSignals, options: StreamOptions) -> Float[Array, "B T"]:
    """Expected worth of each step under the learned model's three classes, at the step's last token."""
    assert rows.prm is not None
    worth = jnp.array([options.bad, options.neutral, options.good], jnp.float32)
    return jnp.where(judged_ends(rows), rows.prm @ worth, 0.0)


def verifier(rows: Trajectory, host: HostSignals, options: StreamOptions) -> Float[Array, "B T"]:
    """Worth of each step by the task's exact judgement, at the step's last token."""
    rating = host["rating"]
    worth = jnp.where(rating > 0, options.good, jnp.where(rating < 0, options.bad, options.neutral))
    return jnp.where(judged_ends(rows), worth, 0.0)


def outcome(rows: Trajectory, host: HostSignals, options: StreamOptions) -> Float[Array, "B T"]:
    """Worth of the graded answer at the response's last token; a truncated response has no outcome yet."""
    worth = jnp.where(host["correct"], options.good, options.bad)[:, None]
    at_end = (rows.columns == rows.last[:, None]) & rows.mask & rows.finished[:, None]
    return jnp.where(at_end, worth, 0.0)


def kl(rows: Trajectory, host: HostSignals, options: StreamOptions) -> Float[Array, "B T"]:
    """Minus the k1 estimate of the divergence from the reference, log π_ref − log π, on every token."""
    assert rows.old_logprobs is not None and rows.ref_logprobs is not None
    return jnp.where(rows.mask, rows.ref_logprobs - rows.old_logprobs, 0.0)


SIGNALS: dict[str, Signal] = {"prm": prm, "verifier": verifier, "outcome": outcome, "kl": kl}


def stream_rewards(rows: Trajectory, host: HostSignals, streams: Mapping[str, StreamOptions]) -> Float[Array, "B N T"]:
    """The rewards of every stream, in the streams' order."""
    return jnp.stack([SIGNALS[o.signal](rows, host, o) for o in streams.values()], axis=1)


def check_signals(streams: Mapping[str, StreamOptions]) -> None:
    from stepjax.options import nearest

    if not streams:
        raise UserError("config.ppo.streams: name at least one reward stream")
    for name, options in streams.items():
        if options.signal not in SIGNALS:
            raise UserError(
                f"config.ppo.streams.{name}.signal: no signal {options.signal!r}{nearest(options.signal, SIGNALS)}"
            )
