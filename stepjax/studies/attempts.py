"""A policy that chooses between attempting a step and restating something, trained by the credit program of training.

There are problems of many kinds. On one of kind j an attempt is right with probability p_j, its skill, and a
restatement is always neutral. A response is one step of two tokens: the first chooses, the second shows how the attempt
came out. A critic learns the mean return before either token.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from stepjax.rewards.signal import CORRECT, RATING
from stepjax.steps import Steps
from stepjax.trajectory import Trajectory

FIRST, SECOND, WIDTH = 1, 2, 3
"""Columns of the two tokens, after a prompt of one token, and of all."""

CREDIT = ("policy_weight", "returns")
"""What training reads of the credit."""


@dataclasses.dataclass(frozen=True)
class Training:
    """How the policy is trained.

    Attributes:
      kinds: of problems; their skills are spread evenly over (0, 1).
      samples: responses to each kind a round.
      rounds: updates.
      rate: learning rate of the logits, for a gradient averaged over the responses to a kind.
      critic_rate: share of the way to a round's mean return that the critic goes.
      attempt: the probability of an attempt at the start.
      learns: learning rate of the skill's logits, in units of `rate`; 0: the skill stays as it is.
    """

    kinds: int = 80
    samples: int = 32
    rounds: int = 300
    rate: float = 0.5
    critic_rate: float = 0.2
    attempt: float = 0.5
    learns: float = 0.0

    @property
    def skills(self) -> np.ndarray:
        """p_j at the start, `[kinds]`."""
        return (np.arange(self.kinds) + 0.5) / self.kinds


def train(
    program: Callable[..., Any], streams: int, training: Training, rng: np.random.Generator
) -> tuple[Float[np.ndarray, " kinds"], Float[np.ndarray, " kinds"]]:
    """The probability of an attempt and the skill of each kind, after training.

    Args:
      program: of `crediting`, for `CREDIT`.
      streams: how many streams it credits.
    """
    kinds, samples = training.kinds, training.samples
    choose = np.full(kinds, np.log(training.attempt / (1 - training.attempt)))
    skill = np.log(training.skills / (1 - training.skills))
    before, after = np.zeros((kinds, streams)), np.zeros((kinds, 2, streams))
    kind = np.repeat(np.arange(kinds), samples)
    for _ in range(training.rounds):
        attempts, p = _sigmoid(choose), _sigmoid(skill)
        tries = rng.random(len(kind)) < attempts[kind]
        right = tries & (rng.random(len(kind)) < p[kind])
        values = np.zeros((len(kind), streams, WIDTH), np.float32)
        values[:, :, FIRST], values[:, :, SECOND] = before[kind], after[kind, tries.astype(int)]
        weight, returns = (np.asarray(x, np.float64) for x in program(*_rows(tries, right, values)))
        choose += training.rate * _mean(weight[:, FIRST] * (tries - attempts[kind]), kinds)
        if training.learns:
            skill += training.learns * training.rate * _mean(weight[:, SECOND] * tries * (right - p[kind]), kinds)
        before += training.critic_rate * (_mean(returns[:, :, FIRST], kinds) - before)
        for which in (0, 1):
            chosen = (tries == which).reshape(kinds, samples, 1)
            of = returns[:, :, SECOND].reshape(kinds, samples, streams)
            count = chosen.sum(1)
            step = training.critic_rate * ((of * chosen).sum(1) / np.maximum(count, 1) - after[:, which])
            after[:, which] += np.where(count > 0, step, 0.0)
    return _sigmoid(choose), _sigmoid(skill)


def threshold(succeeded: Bool[np.ndarray, " kinds"]) -> float:
    """The skill above which kinds succeed: the share of those that do not, their skills being spread evenly."""
    return float(1 - succeeded.mean())


def _rows(tries: np.ndarray, right: np.ndarray, values: np.ndarray) -> tuple[Trajectory, dict[str, Any]]:
    count = len(tries)
    shape = (count, WIDTH)
    index = np.broadcast_to(np.array([-1, 0, 0], np.int32), shape)
    end = np.broadcast_to(np.array([False, False, True]), shape)
    tokens = np.stack([np.zeros(count), 1 + tries, 3 + tries * (1 + right)], axis=1).astype(np.int32)
    nothing = np.zeros(shape, np.float32)
    rating = nothing.copy()
    rating[:, SECOND] = np.where(tries, np.where(right, 1, -1), 0)
    rows = Trajectory(
        tokens=jnp.asarray(tokens),
        prompt_length=jnp.ones(count, jnp.int32),
        response_length=jnp.full(count, 2, jnp.int32),
        finished=jnp.ones(count, bool),
        logprobs=jnp.asarray(nothing),
        prompt_width=1,
        steps=Steps(jnp.asarray(index), jnp.asarray(end)),
        old_logprobs=jnp.asarray(nothing),
        ref_logprobs=jnp.asarray(nothing),
        entropy=jnp.asarray(nothing),
        values=jnp.asarray(values),
        bootstrap=jnp.zeros(values.shape[:2], jnp.float32),
    )
    return rows, {RATING: jnp.asarray(rating), CORRECT: jnp.asarray(right)}


def _mean(values: np.ndarray, kinds: int) -> np.ndarray:
    """Mean over the responses to each kind."""
    return values.reshape(kinds, -1, *values.shape[1:]).mean(1)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
