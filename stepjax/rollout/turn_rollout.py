"""Rollouts with an environment that answers over turns: no slot and no device waits for it.

A row whose turn has ended leaves its slot to another one. The environment answers it in a process of its own; the loop
looks between two turns of the rollout which replies are there, and lets these rows go on: what they have is held in
the cache, so that they only read the reply. So a slow environment costs only the rows that wait for it, as long as
there are others. A row's tokens depend on its key, its prompt and its replies, not on when these come.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from stepjax.config import EnvironmentOptions
from stepjax.console.progress import say
from stepjax.host_rows import HostRows
from stepjax.models import Definition, LanguageModel
from stepjax.models.definition import Params
from stepjax.parallel import batch_devices, batch_sharding
from stepjax.rollout.pausable import PausableRollout
from stepjax.rollout.program import RolloutShape, on_device
from stepjax.rollout.record import Occupancy
from stepjax.rollout.sampling import Sampler
from stepjax.rollout.slot_use import Use
from stepjax.rollout.stops import Stops
from stepjax.rollout.talks import Talk, Words
from stepjax.rollout.turn_round import TurnRound, TurnSizes
from stepjax.tasks.base import Problem
from stepjax.tasks.environment_pool import EnvironmentPool
from stepjax.tasks.turns import CAUSES
from stepjax.trajectory import Trajectory, Turns

PORTIONS = 4
"""Rows go on in portions of this part of the slots, as long as others wait."""


class TurnRollout(TurnSizes):
    """A rollout whose rows an environment answers, for given sizes.

    Attributes:
      use: of the slots in the last call.
    """

    def __init__(
        self,
        definition: Definition[LanguageModel],
        mesh: Mesh,
        shape: RolloutShape,
        options: EnvironmentOptions,
        pool: EnvironmentPool,
        words: Words,
        *,
        sampler: Sampler,
        stops: Stops | None,
        gather: bool = True,
        record: bool = False,
    ):
        """`pool`: of this process; the other arguments as of `PausableRollout`, whose rows end with a turn."""
        shape = shape.of_turns
        added = -(-on_device(shape, batch_devices(mesh)).slots // PORTIONS)
        how = {"eos": words.framing.ends, "sampler": sampler, "stops": stops, "gather": gather, "record": record}
        rollout = PausableRollout(definition, mesh, shape, added=added, **how)  # type: ignore[arg-type]
        super().__init__(rollout, shape, HostRows(mesh, shape.rows), options, pool, words)
        self.use = Use()
        self._by_row = batch_sharding(mesh)
        self._told: set[int] = set()

    def outputs(self) -> Trajectory:
        """Shapes and shardings of a trajectory."""
        rows: Trajectory = self.rollout.programs.rows.outputs()

        def by_token(dtype: Any) -> Any:
            return jax.ShapeDtypeStruct(rows.tokens.shape, dtype, sharding=self._by_row)

        cause: Any = jax.ShapeDtypeStruct(rows.tokens.shape[:1], jnp.int32, sharding=self._by_row)
        turns = Turns(by_token(jnp.float32), by_token(jnp.bool_), cause)
        return dataclasses.replace(rows, env_tokens=by_token(jnp.bool_), turns=turns)

    def __call__(
        self,
        params: Params,
        prompts: Sequence[Sequence[int]],
        problems: Sequence[Problem],
        rows: Sequence[int] | np.ndarray,
        key: jax.Array,
        ids: np.ndarray,
    ) -> tuple[Trajectory, Occupancy]:
        """A response to each of the prompts `rows` (`shape.rows` at most; the trajectory's other rows are empty).

        Args:
          prompts, problems: token ids, and what the environment gets.
          key: on the devices; `ids`: the numbers that name the rows' random keys.
        """
        made = [Talk(problems[i], prompts[i]) for i in np.asarray(rows).tolist()]
        talking = TurnRound(self, made, np.asarray(ids))
        try:
            found, occupancy = talking.run(params, key)
        except BaseException:
            self.pool.close()
            raise
        self.use = talking.use
        self._tell(made)
        return found, occupancy

    def _tell(self, talks: Sequence[Talk]) -> None:
        """The first failure of each kind is said, once."""
        for failed in talks:
            if not failed.told or failed.cause in self._told:
                continue
            self._told.add(failed.cause)
            say(
                f"environment {self.options.name}: problem {failed.problem.id}: {CAUSES[failed.cause]}: {failed.told} "
                f"(further ones are only counted: environment/{CAUSES[failed.cause]} in metrics.jsonl)"
            )
