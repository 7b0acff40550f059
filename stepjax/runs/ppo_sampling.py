"""A round's responses: sampled in waves, so that the host rates one while the next decodes."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from stepjax.config import PPOOptions
from stepjax.host_rows import HostRows
from stepjax.models.definition import Params
from stepjax.parallel import RULES, batch_devices, batch_sharding, fetch
from stepjax.phases import phase
from stepjax.programs import Program, abstract
from stepjax.rollout.record import Occupancy
from stepjax.runs.response_sampling import ResponseSampler
from stepjax.runs.responses import Response, read_own_responses
from stepjax.runs.setup import Run
from stepjax.tasks.base import Problem
from stepjax.tasks.encoding import Prompts
from stepjax.trajectory import Trajectory

Waves = list[tuple[Trajectory, Occupancy]]
Context = Callable[[], AbstractContextManager[Any]]


class RoundSampler:
    """Samples a round in waves of equal size and puts them together again.

    Of each device's rows the first ones are in the first wave, and so on: a row stays on its device, and with the
    process that reads it.

    Attributes:
      rows: responses of a round.
    """

    def __init__(self, run: Run, sampler: ResponseSampler, waves: int):
        self.run, self.sampler, self.waves = run, sampler, waves
        self.rows = sampler.shape.rows * waves
        by_device = np.arange(self.rows).reshape(batch_devices(run.mesh), waves, -1)
        self._members = [by_device[:, wave].reshape(-1) for wave in range(waves)]
        self._hosts = HostRows(run.mesh, sampler.shape.rows)
        self.join = None if waves == 1 else join_program(run.mesh, sampler.outputs, waves)

    @property
    def outputs(self) -> Trajectory:
        """Shapes and shardings of a round's trajectory."""
        return self.sampler.outputs if self.join is None else self.join.outputs()

    def start(self, params: Params, prompts: Prompts, chosen: np.ndarray, key: jax.Array, ids: np.ndarray) -> Waves:
        """Hands all waves to the devices; returns before they are done."""
        found: Waves = []
        for rows in self._members:
            trajectory = self.sampler(params, prompts, chosen[rows], key, ids[rows])
            assert self.sampler.occupancy is not None
            found.append((trajectory, self.sampler.occupancy))
        return found

    def whole(self, waves: Waves) -> Trajectory:
        """The round's trajectory, in the order of its rows."""
        return waves[0][0] if self.join is None else self.join(*(trajectory for trajectory, _ in waves))

    def read(
        self,
        problems: Sequence[Problem],
        waves: Waves,
        waiting: Context,
        rating: Context,
        begin: Callable[[Sequence[Response]], None] = lambda responses: None,
    ) -> list[Response]:
        """This process's responses in the order of their rows, rated as the waves come in.

        `waiting()` and `rating()` give the contexts in which the host waits for a wave and rates it; `begin` is given
        each wave's responses at once.
        """
        found: dict[int, Response] = {}
        for wave, (rows, (trajectory, _)) in enumerate(zip(self._members, waves, strict=True), 1):
            phase(f"decoding {self.rows} responses" + (f", wave {wave} of {self.waves}" if self.waves > 1 else ""))
            with waiting():
                jax.block_until_ready(trajectory.tokens)
            with rating():
                own = read_own_responses(self.run, self._hosts, [problems[row] for row in rows.tolist()], trajectory)
            begin(own)
            found |= dict(zip(rows[self._hosts.mine].tolist(), own, strict=True))
        return [found[row] for row in sorted(found)]


def runs_ahead(options: PPOOptions, step: int) -> bool:
    """Whether the rollout after a round starts before the round's update; not where a checkpoint is due, so that a run
    that is continued there samples what it would have sampled."""
    return options.stale and step < options.iterations and step % options.checkpoint_every != 0


def occupancy_of(waves: Waves) -> dict[str, float]:
    """How a round used its slots: the share that had a row while rows waited, and the steps that it took; of a cache in
    blocks the tokens of those in use, at most, and the tokens that were drawn again."""
    each: list[Occupancy] = fetch([occupancy for _, occupancy in waves])
    busy, offered, steps = (sum(int(getattr(o, name)) for o in each) for name in ("busy", "offered", "steps"))
    found = {"rollout/occupancy": busy / offered if offered else 1.0, "rollout/steps": float(steps)}
    if cache := max(int(o.cache) for o in each):
        found |= {"rollout/cache": float(cache), "rollout/restarted": float(sum(int(o.restarted) for o in each))}
    return found


def join_program(mesh: Mesh, wave: Trajectory, waves: int) -> Program:
    """`(wave, wave, …) -> trajectory`: on each device the rows of the first wave, then those of the second, …"""
    rows = PartitionSpec(RULES["batch"])

    def together(*parts: Trajectory) -> Trajectory:
        return jax.tree.map(lambda *x: jnp.concatenate(x), *parts)

    def join(*parts: Trajectory) -> Trajectory:
        return jax.shard_map(together, mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False)(*parts)

    sharding = batch_sharding(mesh)
    return Program("join", join, mesh=mesh, inputs=(abstract(wave, sharding),) * waves, out_shardings=sharding)
