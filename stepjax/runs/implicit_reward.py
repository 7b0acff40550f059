"""The implicit process reward model φ of a run: its programs, its training state, and what a round does with it."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stepjax.learners.implicit import implicit_score_program, implicit_update_program
from stepjax.learners.optimizers import State, abstract_state, init_state, make_optimizer
from stepjax.measures.ranking import auc
from stepjax.models.definition import Params
from stepjax.models.trainable import join
from stepjax.programs import Program
from stepjax.runs.responses import Response
from stepjax.runs.setup import Run, device_scalar
from stepjax.trajectory import Trajectory


class ImplicitReward:
    """φ, which starts at the reference and trains as the policy does: all of its parameters, or adapters of its own.

    Attributes:
      abstract_state: shapes, dtypes and shardings of its training state.
      score, update: its programs.
    """

    def __init__(self, run: Run, rows: Trajectory):
        """`rows`: the abstract trajectory of a round that is scored."""
        options = run.config.ppo
        self.run, self.options = run, options.implicit
        self.trainable = run.trainable("ppo", run.policy)
        updates = options.iterations * self.options.epochs * self.options.minibatches
        self._optimizer = make_optimizer(self.options.optimizer, updates)
        self.abstract_state = abstract_state(self.trainable, self._optimizer, run.mesh)
        self.score = implicit_score_program(options, run.policy, run.mesh, rows)
        self.update = implicit_update_program(options, run.policy, self._optimizer, run.mesh, rows, self.trainable)

    @property
    def programs(self) -> tuple[Program, Program]:
        return self.score, self.update

    @property
    def readings(self) -> int:
        """How often φ reads a round's responses without training: before it learns, and after it where that pays."""
        return 2 if self.options.order == "before" else 1

    def initial_state(self, reference: Params) -> State:
        return init_state(self.trainable.split(reference)[0], self._optimizer, self.abstract_state, self.run.mesh)

    def __call__(
        self, state: State, reference: Params, rows: Trajectory, correct: jax.Array, number: int, key: jax.Array
    ) -> tuple[State, Trajectory, jax.Array, dict[str, jax.Array]]:
        """The state after the round of this number, the trajectory with the rewards, the log-odds of a right answer,
        float32[B], before φ trained on the round, and figures of the training.

        `reference`: all of its parameters, of which φ shares what it does not train. `correct`: bool[B].
        """
        frozen = self.trainable.frozen_of(reference) if self.trainable.frozen_shapes else {}
        rewards, log_odds = self.score(join(state["params"], frozen), rows)
        state, metrics = self.update(
            state, rows, correct, key, device_scalar(number, self.run.mesh), *([frozen] if frozen else [])
        )
        if self.options.order == "before":
            rewards, _ = self.score(join(state["params"], frozen), rows)
        return state, with_implicit(rows, rewards), log_odds, metrics


def with_implicit(rows: Trajectory, rewards: Any = None) -> Trajectory:
    """The trajectory with implicit rewards, float32[B, T]; without them, abstract ones for a program."""
    if rewards is None:
        rewards = jax.ShapeDtypeStruct(rows.tokens.shape, jnp.float32, sharding=rows.tokens.sharding)
    return dataclasses.replace(rows, implicit=rewards)


def outcome_figures(log_odds: np.ndarray, responses: Sequence[Response]) -> dict[str, float]:
    """How well log-odds, float32[B], foretell the outcomes of the responses that ended by themselves.

    `implicit/accuracy`: the share on whose side of 0 the outcome is. `implicit/loss`: the mean cross-entropy.
    `implicit/auc`: the chance that a right response has more than a wrong one; `implicit/margin`: by how much, on
    average. A round without a right or without a wrong response has neither of these two.
    """
    ended = np.array([r.finished for r in responses], bool)
    z, right = log_odds[ended].astype(np.float64), np.array([r.correct for r in responses], bool)[ended]
    if not len(z):
        return {}
    found = {
        "implicit/accuracy": float(np.mean((z > 0) == right)),
        "implicit/loss": float(np.mean(np.logaddexp(0.0, z) - right * z)),
    }
    if right.any() and not right.all() and np.isfinite(z).all():
        found["implicit/auc"] = auc(z, right)
        found["implicit/margin"] = float(z[right].mean() - z[~right].mean())
    return found


def belief_gap(log_odds: np.ndarray, responses: Sequence[Response]) -> float:
    """By how much the share of right answers that φ expects, the mean of σ(log-odds), exceeds the true one; 0 where no
    response ended by itself."""
    ended = np.array([r.finished for r in responses], bool)
    if not ended.any():
        return 0.0
    believed = 0.5 * (1.0 + np.tanh(0.5 * log_odds[ended].astype(np.float64)))
    return float(np.mean(believed) - np.mean([r.correct for r in responses if r.finished]))
