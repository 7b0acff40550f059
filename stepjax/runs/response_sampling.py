"""Sampling responses: the rollout program of one compiled size, for any number of problems."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from stepjax.config import EvalOptions, PPOOptions
from stepjax.console.progress import progress
from stepjax.errors import UserError
from stepjax.models.definition import Params
from stepjax.parallel import batch_devices, batch_sharding, key_on, only_asked_transfers, put
from stepjax.programs import Program
from stepjax.rollout.environment import HostTool
from stepjax.rollout.program import RolloutShape, fitting, rollout_program
from stepjax.rollout.record import Occupancy
from stepjax.rollout.requests import request
from stepjax.rollout.sampling import Sampler
from stepjax.rollout.stops import StopStrings
from stepjax.rollout.talks import Words
from stepjax.rollout.turn_rollout import TurnRollout
from stepjax.runs.response_figures import SeparatorWatch
from stepjax.runs.responses import Response, read_responses
from stepjax.runs.setup import Run
from stepjax.runs.stages import has_stage, no_stage, policy_params
from stepjax.tasks.encoding import Prompts, fitting_prompts
from stepjax.tasks.registry import make_environment, open_environment
from stepjax.trajectory import Trajectory


class ResponseSampler:
    """The rollout program of one size, and its inputs: problems and random keys.

    Attributes:
      occupancy: the use of the slots in the last call, on the device; None before the first call.
    """

    def __init__(self, run: Run, shape: RolloutShape, sampler: Sampler, *, record: bool = False):
        """`record`: the trajectories hold what the sampler's filters kept."""
        self.run, self.shape = run, shape
        self.turns = turn_rollout(run, shape, sampler, record=record) if run.config.environment.name else None
        self.program: Program = rollout_program(
            run.policy,
            run.mesh,
            shape,
            eos=run.framing.ends,
            sampler=sampler,
            tool=environment_tool(run),
            gather=run.config.mesh.gather_to_decode,
            record=record,
        )
        self.occupancy: Occupancy | None = None
        self._separated = SeparatorWatch(run.splitter.separator)

    @classmethod
    def of_shape(cls, run: Run, shape: RolloutShape, sampler: Sampler) -> "ResponseSampler":
        """With the run's cache; for fewer rows than the shape's where it does not hold the prompts of all."""
        ppo = run.config.ppo
        shape = dataclasses.replace(shape, block=ppo.block, cache_tokens=ppo.cache_tokens)
        return cls(run, fitting(shape, run.mesh, turns=bool(run.config.environment.name)), sampler)

    @classmethod
    def of_many(cls, run: Run, total: int, sampler: Sampler, *, at_once: int = 0) -> "ResponseSampler":
        """For about `total` responses to separate prompts, of the length that training allows.

        `at_once`: how many decode together, 0 for `eval.rows`.
        """
        ppo, rows = run.config.ppo, at_once or run.config.eval.rows
        devices = batch_devices(run.mesh)
        shape = RolloutShape.of_many(total, rows, ppo.prompt_tokens, ppo.max_new_tokens, devices)
        return cls.of_shape(run, shape, sampler)

    def __call__(
        self,
        params: Any,
        prompts: Prompts,
        rows: Sequence[int] | np.ndarray,
        key: jax.Array,
        ids: np.ndarray,
        limits: np.ndarray | None = None,
        cuts: np.ndarray | None = None,
    ) -> Trajectory:
        """A response to each of prompts `rows`, `shape.rows` at most, on the device; the trajectory's other rows are
        empty. `ids` name the random keys; `limits`: the longest of each response, where it is not `shape.new_tokens`;
        `cuts`, where the shape is branched: tokens at the end of its prompt that each does without.
        """
        if self.turns is not None:
            if limits is not None or cuts is not None:
                raise UserError(
                    "config.environment.name: an environment answers whole responses, which have no limits of their "
                    "own and begin behind their prompts; leave it empty here"
                )
            found, self.occupancy = self.turns(params, prompts.tokens, prompts.problems, rows, key, ids)
            return found
        inputs = request(prompts.tokens, rows, ids, limits, self.shape, batch_devices(self.run.mesh), cuts)
        tokens, lengths, queue = put(inputs, batch_sharding(self.run.mesh))
        trajectory, self.occupancy = self.program(params, tokens, lengths, key, queue)
        return trajectory

    @property
    def outputs(self) -> Trajectory:
        """Shapes and shardings of a trajectory."""
        found: Trajectory = self.program.outputs()[0] if self.turns is None else self.turns.outputs()
        return found

    def many(
        self, params: Any, prompts: Prompts, rows: Sequence[int], key: jax.Array, bar: Any = None
    ) -> list[Response]:
        """A rated response to each of any number of prompts, in batches; row i uses random key i.

        The first call whose responses nowhere hold the step separator says so.
        """
        found: list[Response] = []
        size = self.shape.rows
        for first in range(0, len(rows), size):
            chosen = list(rows[first : first + size])
            trajectory = self(params, prompts, chosen, key, np.arange(first, first + len(chosen)))
            problems = [prompts.problems[r] for r in chosen + [chosen[-1]] * (size - len(chosen))]
            found += read_responses(self.run, problems, trajectory)[: len(chosen)]
            if bar is not None:
                bar.advance(len(chosen))
        self._separated(found)
        return found


def make_sampler(options: PPOOptions | EvalOptions) -> Sampler:
    """How responses are sampled in training (`config.ppo`) or in evaluation (`config.eval`)."""
    return Sampler(options.temperature, options.top_k, options.top_p, options.min_p, options.min_new_tokens)


def environment_tool(run: Run) -> HostTool | None:
    """The environment that the config names, in tokens."""
    options = run.config.ppo
    if not options.environment:
        return None
    environment = make_environment(options.environment)
    return HostTool(environment, run.tokenizer, run.splitter.token_bytes, options.reply_tokens)


def turn_rollout(run: Run, shape: RolloutShape, sampler: Sampler, *, record: bool) -> TurnRollout:
    """The rollout with the environment over turns that the config names; UserError where that cannot be made."""
    pool, call = open_environment(run.config.environment)
    return TurnRollout(
        run.policy,
        run.mesh,
        shape,
        run.config.environment,
        pool,
        Words.of(run.framing, run.config.environment.template, chat=run.prompt.chat),
        sampler=sampler,
        stops=StopStrings(run.splitter.token_bytes, [call]) if call else None,
        gather=run.config.mesh.gather_to_decode,
        record=record,
    )


def first_prompts(run: Run, split: str, count: int) -> Prompts:
    """The first `count` problems of a split (all, where it has fewer), except those longer than `ppo.prompt_tokens`."""
    problems = run.task.problems(split)
    chosen = [problems[i] for i in range(min(count, len(problems)))]
    where = "config.ppo.prompt_tokens"
    return fitting_prompts(run.prompt, chosen, width=run.config.ppo.prompt_tokens, where=where)


def sample_each(
    run: Run,
    params: Params,
    prompts: Prompts,
    sampler: Sampler,
    key: jax.Array,
    *,
    each: int,
    at_once: int = 0,
    label: str = "Responses",
) -> list[Response]:
    """`each` responses to every prompt, those of a prompt together; `at_once`: as in `ResponseSampler.of_many`."""
    rows = [i for i in range(len(prompts.problems)) for _ in range(each)]
    many = ResponseSampler.of_many(run, len(rows), sampler, at_once=at_once)
    with progress(label, len(rows), label.lower()) as bar, only_asked_transfers():
        return many.many(params, prompts, rows, key, bar)


def sample_problems(run: Run, stage: str, *, each: int) -> list[Response]:
    """`each` responses of a stage's policy to every problem that `eval.problems` and `eval.split` choose."""
    options = run.config.eval
    if not has_stage(run, stage):
        raise no_stage(run, stage)
    if each > 1 and options.temperature == 0:
        raise UserError("config.eval.temperature: at 0 all responses to a problem are the same; raise it")
    prompts = first_prompts(run, options.split, options.problems)
    params = policy_params(run, stage)
    return sample_each(run, params, prompts, make_sampler(options), key_on(run.mesh, options.seed), each=each)
