"""A policy that chooses between a step that pays now and one that pays later, trained by the training's credit program.

A response begins with a choice: a good step, or a neutral one, an investment. Then come steps that are right or wrong
whatever was chosen, then two that are right with probability (1 + δ)/2 after an investment, (1 − δ)/2 after none. There
are problems of many kinds, one for each δ. A step is one token; the environment says one after every four steps. A
critic learns the mean return of each state.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from stepjax.rewards.signal import CORRECT, RATING
from stepjax.steps import Steps
from stepjax.trajectory import Trajectory

LATE, TURN = 2, 4
"""Steps that an investment helps; steps of a turn."""

CREDIT = ("policy_weight", "returns")
"""What training reads of the credit."""

OTHERS = 0.8
"""The chance that a step on which the choice has no influence is right."""


@dataclasses.dataclass(frozen=True)
class Training:
    """How the policy is trained.

    Attributes:
      wait: steps between the choice and those that it helps.
      kinds: of problems; their δ are spread evenly over (0, 1).
      samples: responses to each kind a round.
      rounds: updates.
      rate: learning rate of the logits, for a gradient averaged over the responses to a kind.
      critic_rate: share of the way to a round's mean return that the critic goes.
    """

    wait: int = 0
    kinds: int = 80
    samples: int = 16
    rounds: int = 300
    rate: float = 0.5
    critic_rate: float = 0.2

    @property
    def help(self) -> Float[np.ndarray, " kinds"]:
        """δ of each kind."""
        return (np.arange(self.kinds) + 0.5) / self.kinds

    @property
    def columns(self) -> Int[np.ndarray, " S"]:
        """The column of each step: after the prompt, and a token of the environment after every turn but the last."""
        steps = np.arange(1 + self.wait + LATE)
        return 1 + steps + steps // TURN

    @property
    def width(self) -> int:
        """Columns of a row."""
        return int(self.columns[-1]) + 1


@dataclasses.dataclass(frozen=True)
class Tried:
    """Responses: whether each invested, `[B]`, and which of its steps were right, `[B, S]` (an investment is)."""

    kind: Int[np.ndarray, " B"]
    invests: Bool[np.ndarray, " B"]
    right: Bool[np.ndarray, "B S"]

    @property
    def correct(self) -> Bool[np.ndarray, " B"]:
        """Whether the answer is: where the late steps are."""
        return np.logical_and.reduce(self.right[:, -LATE:], axis=1)

    @property
    def so_far(self) -> Int[np.ndarray, "B S"]:
        """Whether no late step before each step was wrong."""
        late = self.right.copy()
        late[:, :-LATE] = True
        return np.cumprod(np.concatenate([np.ones((len(late), 1), int), late[:, :-1]], 1), axis=1)


def attempt(training: Training, chance: Float[np.ndarray, " kinds"], rng: np.random.Generator) -> Tried:
    """Responses of a policy that invests with these chances."""
    kind = np.repeat(np.arange(training.kinds), training.samples)
    invests = rng.random(len(kind)) < chance[kind]
    p = np.full((len(kind), 1 + training.wait + LATE), OTHERS)
    p[:, 0] = 1.0
    p[:, -LATE:] = ((1 + np.where(invests, 1, -1) * training.help[kind]) / 2)[:, None]
    return Tried(kind, invests, rng.random(p.shape) < p)


def train(
    program: Callable[..., Any], streams: int, training: Training, rng: np.random.Generator
) -> Float[np.ndarray, "rounds kinds"]:
    """The probability of an investment in each round and, last, after training.

    Args:
      program: of `crediting`, for `CREDIT`.
      streams: how many streams it credits.
    """
    choose = np.zeros(training.kinds)
    steps = 1 + training.wait + LATE
    values = np.zeros((training.kinds, 2, 2, steps, streams))  # by choice, whether all is right so far, step
    found = []
    for _ in range(training.rounds):
        chance = 1 / (1 + np.exp(-choose))
        found.append(chance)
        tried = attempt(training, chance, rng)
        at = _states(tried)
        weight, returns = (np.asarray(x, np.float64) for x in program(*rows_of(training, tried, values[at])))
        choose = choose + training.rate * _mean(weight[:, 1] * (tried.invests - chance[tried.kind]), training.kinds)
        of_steps = returns[:, :, training.columns].swapaxes(1, 2)
        cell, size = np.ravel_multi_index(at, values.shape[:-1]).ravel(), values[..., 0].size
        counts = np.bincount(cell, minlength=size)[:, None]
        sums = np.stack([np.bincount(cell, of_steps[..., n].ravel(), size) for n in range(streams)], -1)
        means = (sums / np.maximum(counts, 1)).reshape(values.shape)
        values += training.critic_rate * np.where(counts.reshape(values.shape[:-1])[..., None] > 0, means - values, 0.0)
    return np.array([*found, 1 / (1 + np.exp(-choose))])


def _states(tried: Tried) -> tuple[np.ndarray, ...]:
    """Indices of the critic's value before each step: before the choice nothing is chosen."""
    shape = tried.right.shape
    chosen = np.broadcast_to(tried.invests[:, None], shape).astype(int)
    chosen[:, 0] = 0
    step = np.broadcast_to(np.arange(shape[1]), shape)
    return np.broadcast_to(tried.kind[:, None], shape), chosen, tried.so_far, step


def rows_of(
    training: Training, tried: Tried, values: Float[np.ndarray, "B S N"]
) -> tuple[Trajectory, dict[str, jax.Array]]:
    """Scored rows; `values` is the critic's before each step. The process reward model knows the chance of a right
    answer after each step."""
    count, columns, width = len(tried.kind), training.columns, training.width
    index, env = np.full((count, width), -1, np.int32), np.zeros((count, width), bool)
    index[:, columns] = np.arange(len(columns))
    env[:, 1:] = index[:, 1:] < 0
    nothing = np.zeros((count, width), np.float32)
    rating, heads, prm = (
        nothing.copy(),
        np.zeros((count, values.shape[2], width), np.float32),
        np.zeros((*nothing.shape, 2)),
    )
    rating[:, columns] = np.where(tried.right, 1, -1)
    rating[tried.invests, 1] = 0
    heads[:, :, columns] = values.swapaxes(1, 2)
    prm[:, columns, 1] = chance_after(training, tried)
    prm[:, columns, 0] = 1 - prm[:, columns, 1]
    tokens = nothing.astype(np.int32)
    tokens[:, columns] = 1 + tried.right
    tokens[:, 1] += 2 * tried.invests
    columns_of: dict[str, Any] = {
        "tokens": tokens,
        "prompt_length": np.ones(count, np.int32),
        "response_length": np.full(count, width - 1, np.int32),
        "finished": np.ones(count, bool),
        "logprobs": nothing,
        "env_tokens": env,
        "steps": Steps(jnp.asarray(index), jnp.asarray(index >= 0)),
        "old_logprobs": nothing,
        "ref_logprobs": nothing,
        "entropy": nothing,
        "values": heads,
        "bootstrap": np.zeros(heads.shape[:2], np.float32),
        "prm": prm.astype(np.float32),
    }
    return jax.device_put((Trajectory(**columns_of, prompt_width=1), {RATING: rating, CORRECT: tried.correct}))


def chance_after(training: Training, tried: Tried) -> Float[np.ndarray, "B S"]:
    """The chance of a right answer after each step."""
    p = (1 + np.where(tried.invests, 1, -1) * training.help[tried.kind]) / 2
    steps = tried.right.shape[1]
    left = np.minimum(steps - 1 - np.arange(steps), LATE)
    after = np.concatenate([tried.so_far[:, 1:], tried.correct[:, None]], 1)
    return after * p[:, None] ** left


def _mean(values: np.ndarray, kinds: int) -> np.ndarray:
    """Mean over the responses to each kind."""
    return values.reshape(kinds, -1).mean(1)
