"""The programs of a PPO run, built from shapes and options only: no parameter is read and no device computes."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from stepjax.config import PPOOptions
from stepjax.learners.optimizers import State, init_state, make_optimizer
from stepjax.learners.ppo import credit_program
from stepjax.learners.score import score_program
from stepjax.learners.update import abstract_ppo_state, update_program, updates_by_role
from stepjax.models.definition import Params
from stepjax.parallel import batch_devices
from stepjax.programs import Program
from stepjax.rewards.check import check_signals
from stepjax.rewards.reward_streams import reads_implicit
from stepjax.rollout.program import RolloutShape, on_device
from stepjax.runs.carried_rounds import carried_shape
from stepjax.runs.implicit_reward import ImplicitReward, with_implicit
from stepjax.runs.ppo_sampling import RoundSampler, Waves, occupancy_of
from stepjax.runs.public_prm import with_scores
from stepjax.runs.response_sampling import ResponseSampler, make_sampler
from stepjax.runs.setup import Run, device_scalar
from stepjax.trajectory import Trajectory

RECENT = 3
"""Rounds whose lengths decide the number of slots."""


def round_shape(options: PPOOptions) -> RolloutShape:
    """The sizes of a wave of a round."""
    return RolloutShape(
        options.prompts * options.samples // options.waves,
        options.prompt_tokens,
        options.max_new_tokens,
        samples=options.samples,
        slots=options.slots,
        prefill_rows=options.prefill_rows,
        halvings=options.halvings,
        block=options.block,
        cache_tokens=options.cache_tokens,
    )


class PPOPrograms:
    """Rollout, score, credit and update of a run, and the shape of the state that goes through them.

    Attributes:
      rows: responses per round.
      trainables: the parameters of policy and critic that are trained.
      implicit: the implicit process reward model; None where no stream reads it.
      abstract_state: shapes, dtypes and shardings of what is trained.
    """

    def __init__(self, run: Run, *, prm: bool, public: bool = False):
        """`prm`: the run's own process reward model scores the steps; `public`: another one does."""
        options = run.config.ppo
        check_signals(options.streams)
        self.run, self.options = run, options
        self.rows = options.prompts * options.samples
        self._lengths: list[float] = []
        self._make_round(round_shape(options))
        updates = updates_by_role(options)
        self.optimizers = {
            "policy": make_optimizer(options.policy, updates["policy"]),
            "critic": make_optimizer(options.critic, updates["critic"]),
        }
        self.trainables = {"policy": run.trainable("ppo", run.policy)}
        if run.critic is not None:
            self.trainables["critic"] = run.trainable("ppo", run.critic)
        self.abstract_state = abstract_ppo_state(
            options, self.trainables["policy"], self.trainables.get("critic"), self.optimizers, run.mesh
        )
        self.score = score_program(
            run.policy,
            run.critic,
            run.prm if prm else None,
            run.splitter,
            run.mesh,
            self.round.outputs,
            temperature=options.temperature,
            row_tokens=options.row_tokens,
            micro_tokens=options.micro_tokens,
        )
        scored = with_scores(self.score.outputs()) if public else self.score.outputs()
        self.implicit: ImplicitReward | None = None
        if reads_implicit(options.streams):
            self.implicit = ImplicitReward(run, scored)
            self.abstract_state["implicit"] = self.implicit.abstract_state
            scored = with_implicit(scored)
        self.credit = credit_program(options, run.mesh, scored)
        self.update = update_program(
            options, run.policy, run.critic, self.optimizers, run.mesh, self.credit.outputs()[0], self.trainables
        )

    def _make_round(self, shape: RolloutShape) -> None:
        self.sampler = ResponseSampler(self.run, shape, make_sampler(self.options), record=self.options.replay)
        self.round = RoundSampler(self.run, self.sampler, self.options.waves)

    def used(self, waves: Waves) -> dict[str, float]:
        """How a round used its slots; with an environment over turns, that depends on when replies come."""
        found, turns = occupancy_of(waves), self.sampler.turns
        if turns is None:
            return found
        found = {f"rate/{name.removeprefix('rollout/')}": x for name, x in found.items()}
        found |= {f"rate/slots_{name}": x for name, x in turns.use.shares.items()}
        tokens = {"fed": turns.use.fed, "prefilled_again": turns.use.prefilled_again}
        return found | {f"rate/tokens_{name}": float(x) for name, x in tokens.items()}

    def observe_lengths(self, tokens: float) -> None:
        """After a round whose prompts and responses had so many tokens on average: the number of slots that the cache
        allows for the last rounds, where it is left to that, from the next round on.

        The rollout is compiled again; so the slots stay while they are within half of what the cache allows.
        """
        options, shape = self.options, self.sampler.shape
        if options.slots or not options.cache_tokens:
            return
        self._lengths = [*self._lengths[1 - RECENT :], tokens]
        devices = batch_devices(self.run.mesh)
        wanted = dataclasses.replace(shape, held=math.ceil(sum(self._lengths) / len(self._lengths)))
        if options.carry:  # more rows than a round's own
            shape = carried_shape(options, shape, devices)
        now, then = (on_device(s, devices).slots for s in (shape, dataclasses.replace(shape, held=wanted.held)))
        if not 2 / 3 <= then / now <= 3 / 2:
            self._make_round(wanted)

    def lengths_seen(self) -> dict[str, Any]:
        """What the number of slots follows from, for a checkpoint: which responses a round has may depend on it."""
        return {"lengths": self._lengths, "held": self.sampler.shape.held}

    def recall_lengths(self, seen: Mapping[str, Any]) -> None:
        """Goes on with what `lengths_seen` gave, or with nothing where a checkpoint does not have it."""
        self._lengths = list(seen.get("lengths", ()))
        if held := seen.get("held", 0):
            self._make_round(dataclasses.replace(self.sampler.shape, held=held))

    def init_roles(self, params: Mapping[str, Params]) -> State:
        """Fresh training states of the roles around all of their parameters; φ's around the policy's."""
        like, mesh = self.abstract_state, self.run.mesh
        state = {
            role: init_state(trainable.split(params[role])[0], self.optimizers[role], like[role], mesh)
            for role, trainable in self.trainables.items()
        }
        return state if self.implicit is None else state | {"implicit": self.implicit.initial_state(params["policy"])}

    def row_ids(self, number: int) -> np.ndarray:
        """The numbers that name a round's random keys. They hold the round: no two responses of a run share a key."""
        return np.arange(self.rows) + number * self.rows

    def updated(
        self, state: State, rows: Trajectory, key: jax.Array, number: int, frozen: dict[str, Params]
    ) -> tuple[State, dict[str, jax.Array]]:
        """The state after the round of this number, and its metrics. `frozen`: what stands still, by role.

        φ has trained before, and passes as it is.
        """
        others = {role: x for role, x in state.items() if role == "implicit"}
        state = {role: x for role, x in state.items() if role != "implicit"}
        number_there = device_scalar(number, self.run.mesh)
        state, metrics = self.update(state, rows, key, number_there, *([frozen] if frozen else []))
        return state | others, metrics

    @property
    def programs(self) -> tuple[Program, ...]:
        """In the order of a round."""
        implicit = () if self.implicit is None else self.implicit.programs
        return self.sampler.program, self.score, *implicit, self.credit, self.update
