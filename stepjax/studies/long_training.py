"""Training of a `long_writer`: its own gradient with advantages of the credit program of training, and Adam.

A step is one token. The critic is exact, it knows what each stream pays on average from each state on; or it learns. A
process reward model is a table of P(bad), P(neutral), P(good) by state and move.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from stepjax.config import PPOOptions, StreamOptions
from stepjax.rewards import signals
from stepjax.rewards.reward_streams import has_critic
from stepjax.rewards.signal import CORRECT, RATING
from stepjax.rewards.signals import SIGNALS
from stepjax.steps import Steps
from stepjax.studies.learned_critic import LearnedCritic
from stepjax.studies.long_writer import LongWriter, LongWritten, outcome_rewards, write
from stepjax.trajectory import Trajectory

Table = Float[np.ndarray, "D 2 M 3"]
"""P(bad), P(neutral), P(good) by state and move."""

MEMORY, SQUARE_MEMORY = 0.9, 0.99
"""Adam's decays."""


@dataclasses.dataclass(frozen=True)
class Round:
    """A round before its update: the policy, its responses, and the scores of their steps, `[B, T, 3]`."""

    writer: LongWriter
    written: LongWritten
    scores: Float[np.ndarray, "B T 3"]


def train(
    writer: LongWriter,
    prm: Table,
    options: PPOOptions,
    program: Callable[..., Any],
    *,
    rounds: int,
    responses: int,
    rate: float,
    rng: np.random.Generator,
    critic: LearnedCritic | None = None,
    host: Callable[[LongWriter, LongWritten], Mapping[str, np.ndarray]] | None = None,
    tied: Bool[np.ndarray, " M"] | None = None,
) -> Iterator[Round]:
    """The rounds of a training run, and at last one of the policy that came of it (after `rounds` updates).

    Args:
      program: `crediting(options, "policy_weight")`; with a critic that learns, `crediting(options, "policy_weight",
        "returns")`.
      responses: a round.
      rate: Adam's learning rate of the logits.
      critic: learns from the returns of each round after its advantages are computed; None: the exact one.
      host: further signals of the host for the steps of responses, by name, `[B, T]`.
      tied: moves that have one logit in each state: how often which of them is made stays as it is.
    """
    allowed = writer.moves > 0
    logits = np.log(np.where(allowed, writer.moves, 1.0))
    mean, square = np.zeros(logits.shape), np.zeros(logits.shape)
    for t in range(1, rounds + 2):
        written = write(writer, responses, rng)
        scores = np.where(written.there[..., None], prm[written.derived, written.error, written.move], 0.0)
        yield Round(writer, written, scores)
        if t > rounds:
            return
        further = host(writer, written) if host else {}
        weight = program(*rows_of(writer, written, scores, prm, options, critic, further))
        if critic is not None:
            weight, returns = weight
            critic.learn(written, np.asarray(returns, np.float64)[:, :, 1:])
        gradient = gradient_of(writer, written, np.asarray(weight, np.float64)[:, 1:])
        if tied is not None:
            gradient = np.where(tied, (gradient * tied).sum(-1, keepdims=True), gradient)
        mean = MEMORY * mean + (1 - MEMORY) * gradient
        square = SQUARE_MEMORY * square + (1 - SQUARE_MEMORY) * gradient**2
        root = np.sqrt(square / (1 - SQUARE_MEMORY**t)) + 1e-8
        logits = logits + rate * mean / (1 - MEMORY**t) / root
        moves = np.where(allowed, np.exp(logits - logits.max(-1, keepdims=True)), 0.0)
        writer = dataclasses.replace(writer, moves=moves / moves.sum(-1, keepdims=True))


def gradient_of(
    writer: LongWriter, written: LongWritten, weight: Float[np.ndarray, "B T"]
) -> Float[np.ndarray, "D 2 M"]:
    """The mean over responses of Σ_s Â_s (e_move − π(state)), the derivative by the logits."""
    rows, steps = np.nonzero(written.there)
    of_state = np.ravel_multi_index((written.derived[rows, steps], written.error[rows, steps]), writer.moves.shape[:2])
    estimate, count = weight[rows, steps], writer.moves.shape[2]
    taken = np.bincount(of_state * count + written.move[rows, steps], estimate, writer.moves.size)
    seen = np.bincount(of_state, estimate, writer.moves.size // count).reshape(*writer.moves.shape[:2], 1)
    return (taken.reshape(writer.moves.shape) - seen * writer.moves) / len(written.move)


def rows_of(
    writer: LongWriter,
    written: LongWritten,
    scores: Float[np.ndarray, "B T 3"],
    prm: Table,
    options: PPOOptions,
    learned: LearnedCritic | None = None,
    further: Mapping[str, np.ndarray] | None = None,
) -> tuple[Trajectory, dict[str, Any]]:
    """Scored rows, as rollout, score program and host hand them to the credit program; the prompt is one token."""
    count, width = written.move.shape
    there, nothing = written.there, np.zeros((count, 1 + width), np.float32)
    index = np.full((count, 1 + width), -1, np.int32)
    index[:, 1:] = np.where(there, np.arange(width), -1)
    chance = np.where(there, writer.moves[written.derived, written.error, written.move], 1.0)
    logprobs = nothing.copy()
    logprobs[:, 1:] = np.log(chance)
    values = np.zeros((count, len(options.streams), 1 + width), np.float32)
    for n, stream in enumerate(options.streams.values()):
        if has_critic(stream):
            critic = learned.values[n][None] if learned else _critic(stream, writer, prm)
            when = np.zeros(width, int) if learned else np.arange(width)
            values[:, n, 1:] = np.where(there, critic[when, written.derived, written.error], 0.0)
    prm_scores, rating = np.zeros((count, 1 + width, 3), np.float32), nothing.copy()
    prm_scores[:, 1:], rating[:, 1:] = scores, written.rating
    tokens = np.zeros((count, 1 + width), np.int32)
    tokens[:, 1:] = np.where(there, 1 + written.move, 0)
    columns: dict[str, Any] = {
        "tokens": tokens,
        "prompt_length": np.ones(count, np.int32),
        "response_length": there.sum(1).astype(np.int32),
        "finished": written.finished,
        "logprobs": logprobs,
        "steps": Steps(jnp.asarray(index), jnp.asarray(index >= 0)),
        "old_logprobs": logprobs,
        "ref_logprobs": logprobs,
        "entropy": nothing,
        "values": values,
        "bootstrap": np.zeros(values.shape[:2], np.float32),  # nothing is earned beyond the limit
        "prm": prm_scores,
    }
    host = {RATING: rating, CORRECT: written.right}
    for name, signal in (further or {}).items():
        host[name] = nothing.copy()
        host[name][:, 1:] = np.where(there, signal, 0.0)
    return jax.device_put((Trajectory(**columns, prompt_width=1), host))


def paid(prm: Table, stream: StreamOptions) -> Float[np.ndarray, "D 2 M"]:
    """What a stream of the signal `prm` pays for each move, on average over the classes that the model thinks of."""
    return prm @ np.array([stream.bad, stream.neutral, stream.good])


def _critic(stream: StreamOptions, writer: LongWriter, prm: Table) -> Float[np.ndarray, "T D 2"]:
    """What the stream pays on average from each state on, or, over a step, for the next one."""
    rewards = SIGNALS[stream.signal].rewards
    if rewards is signals.outcome:
        right = writer.values(outcome_rewards(len(writer.moves)))[0][:-1]
        return stream.bad + (stream.good - stream.bad) * right
    if rewards is not signals.prm:
        raise ValueError(f"no critic of signal {stream.signal!r}")
    earned = paid(prm, stream)
    if stream.horizon == "step":
        return np.broadcast_to((writer.moves * earned).sum(-1), (writer.limit, *writer.moves.shape[:2]))
    return writer.values(earned)[0][:-1]
