"""One benchmark: a run's own programs on random parameters and responses, and the work of each timed call."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np
from jax.sharding import Mesh

from stepjax.bench.costs import Costs
from stepjax.bench.inputs import host_signals, made_up, random_lengths, random_tokens
from stepjax.bench.parameters import Parameters
from stepjax.bench.shapes import end_ids
from stepjax.bench.work import Work
from stepjax.config import Config
from stepjax.parallel import batch_devices, fetch, key_on
from stepjax.plan.surroundings import planned_run
from stepjax.programs import Program
from stepjax.rewards.reward_streams import reads_prm
from stepjax.rewards.signal import CORRECT
from stepjax.rollout.program import on_device
from stepjax.runs.ppo_programs import PPOPrograms
from stepjax.runs.throughput import Clock
from stepjax.tasks.encoding import Prompts
from stepjax.trajectory import Trajectory


@dataclass(frozen=True)
class Timed:
    """One timed call.

    Attributes:
      seconds: by phase.
      prompt, response: int32[B], tokens of each row's prompt and response.
      work: the least work for these.
    """

    seconds: dict[str, float]
    prompt: np.ndarray
    response: np.ndarray
    work: Work

    @property
    def total(self) -> float:
        return sum(self.seconds.values())


class Case:
    """The programs of a config's PPO run, ready to be timed.

    Attributes:
      config: the run's, as `bench_config` returns it.
      programs: the run's own.
    """

    def __init__(self, config: Config, mesh: Mesh):
        self.config, self.mesh, self.options = config, mesh, config.ppo
        run = planned_run(config, mesh)
        self.ends = end_ids(run.vocab, config.bench.mean_length)
        self.run = dataclasses.replace(run, framing=dataclasses.replace(run.framing, ends=self.ends))
        self.programs = PPOPrograms(self.run, prm=any(reads_prm(s) for s in self.options.streams.values()))
        self.parameters = Parameters(self.programs)
        self.costs = Costs(self.programs, self.slots)

    @property
    def slots(self) -> int:
        """Rows that decode at once, on all devices."""
        devices = batch_devices(self.mesh)
        return on_device(self.programs.sampler.shape, devices).slots * devices

    @property
    def occupancy(self) -> dict[str, int]:
        """Use of the slots in the last rollout, as the engine counted."""
        counted = self.programs.sampler.occupancy
        assert counted is not None, "no rollout yet"
        return {name: int(x) for name, x in fetch(dataclasses.asdict(counted)).items()}

    def compiled(self, benchmark: str) -> list[Program]:
        """The programs that a benchmark times."""
        return [p for p in self.programs.programs if benchmark in (p.name, "iteration")]

    def timed(self, benchmark: str, repeat: int) -> Timed:
        """Runs `rollout`, `score`, `credit`, `update` or `iteration` once; a repeat has its own random numbers."""
        timed: Callable[[int], Timed] = getattr(self, f"_{benchmark}")
        return timed(repeat)

    def _rollout(self, repeat: int) -> Timed:
        clock, given = Clock(), self._prompts(repeat)
        with clock("rollout"):
            rows = self._sample(given)
        return self._of(clock, rows, self.costs.rollout)

    def prefill(self, repeat: int, limit: int = 0) -> float:
        """Seconds that a rollout takes whose responses have `limit` tokens."""
        clock, given = Clock(), self._prompts(repeat)
        with clock("prefill"):
            self._sample(given, limit)
        return clock.seconds["prefill"]

    def _score(self, repeat: int) -> Timed:
        clock, rows = Clock(), self._responses(repeat)
        with clock("score"):
            self._scored(rows)
        return self._of(clock, rows, self.costs.score)

    def _credit(self, repeat: int) -> Timed:
        clock, rows, host = Clock(), self._responses(repeat), self._host_signals()
        scored = self._paid(self._scored(rows), host)
        with clock("credit"):
            self._credited(scored, host)
        return self._of(clock, rows, self.costs.credit)

    def _update(self, repeat: int) -> Timed:
        clock, rows, host = Clock(), self._responses(repeat), self._host_signals()
        credited = self._credited(self._paid(self._scored(rows), host), host)
        self.parameters.make_state()  # outside of what is timed
        with clock("update"):
            self._updated(credited, repeat)
        return self._of(clock, rows, self.costs.update)

    def _iteration(self, repeat: int) -> Timed:
        clock, given, host = Clock(), self._prompts(repeat), self._host_signals()
        self.parameters.make_state()
        with clock("rollout"):
            rows = self._sample(given)
        with clock("score"):
            scored = self._scored(rows)
        if self.programs.implicit is not None:
            with clock("implicit"):
                scored = self._paid(scored, host)
        with clock("credit"):
            credited = self._credited(scored, host)
        with clock("update"):
            self._updated(credited, repeat)
        return self._of(clock, rows, self.costs.iteration)

    # The calls of the programs, each in one place; each waits for its results.

    def _sample(self, given: tuple[Prompts, jax.Array, np.ndarray], limit: int | None = None) -> Trajectory:
        """`limit`: tokens of every response; 0: the prompts are prefilled, and no more."""
        prompts, key, ids = given
        chosen = np.repeat(np.arange(self.options.prompts), self.options.samples)
        limits = None if limit is None else np.full(len(chosen), limit)
        rows = self.programs.sampler(self.parameters.policy, prompts, chosen, key, ids, limits)
        fetch((rows.tokens, rows.response_length, rows.logprobs))
        return jax.block_until_ready(rows)

    def _scored(self, rows: Trajectory) -> Trajectory:
        p = self.parameters
        return jax.block_until_ready(self.programs.score(p.policy, p.policy, p.critic, p.prm, rows))

    def _paid(self, rows: Trajectory, host: dict[str, jax.Array]) -> Trajectory:
        """With implicit rewards, where there are some; their model trains."""
        if (phi := self.programs.implicit) is None:
            return rows
        state = self.parameters.take_state()
        found = phi(state["implicit"], self.parameters.policy, rows, host[CORRECT], 1, self._key(0))
        self.parameters.give_state(state | {"implicit": jax.block_until_ready(found)[0]})
        return found[1]

    def _credited(self, rows: Trajectory, host: dict[str, jax.Array]) -> Trajectory:
        return jax.block_until_ready(self.programs.credit(rows, host))[0]

    def _updated(self, rows: Trajectory, repeat: int) -> None:
        state, frozen = self.parameters.take_state(), self.parameters.frozen
        found = self.programs.updated(state, rows, self._key(repeat), repeat + 1, frozen)
        self.parameters.give_state(jax.block_until_ready(found)[0])

    # Prompts and responses

    def _key(self, repeat: int) -> jax.Array:
        return key_on(self.mesh, self.config.seed, repeat)

    def _prompts(self, repeat: int) -> tuple[Prompts, jax.Array, np.ndarray]:
        """Random prompts, the key, and the numbers of the rows."""
        options, rng = self.options, np.random.default_rng(repeat)
        tokens = random_tokens(rng, (options.prompts, options.prompt_tokens), self.run.vocab, self.ends)
        return Prompts([], tokens.tolist(), 0), self._key(repeat), self.programs.row_ids(repeat)

    def _responses(self, repeat: int) -> Trajectory:
        rng, options = np.random.default_rng(repeat), self.options
        lengths = random_lengths(rng, self.programs.rows, self.config.bench.mean_length, options.max_new_tokens)
        like = self.programs.score.inputs[4]
        return made_up(like, rng, prompt=options.prompt_tokens, lengths=lengths, vocab=self.run.vocab, ends=self.ends)

    def _host_signals(self) -> dict[str, jax.Array]:
        return host_signals(self.programs.credit.inputs[1])

    def _of(self, clock: Clock, rows: Trajectory, work: Callable[[np.ndarray, np.ndarray], Work]) -> Timed:
        prompt, response = fetch((rows.prompt_length, rows.response_length))
        return Timed(clock.seconds, prompt, response, work(prompt, response))
