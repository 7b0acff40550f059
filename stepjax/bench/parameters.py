"""Random parameters of a run's models, and the state that its updates train."""

import functools

import jax
import numpy as np

from stepjax.learners.optimizers import State
from stepjax.models.definition import Params
from stepjax.parallel import put
from stepjax.runs.ppo_programs import PPOPrograms


class Parameters:
    """Of all roles, made at their first use; {} of a role that the run has not."""

    def __init__(self, programs: PPOPrograms):
        self._programs, self._run = programs, programs.run
        self._state: State | None = None

    @functools.cached_property
    def policy(self) -> Params:
        """The reference's, too: a pass takes as long with the same numbers."""
        return self._run.policy.sharded_init(self._run.key("policy"), self._run.mesh)

    @functools.cached_property
    def critic(self) -> Params:
        critic = self._run.critic
        return {} if critic is None else critic.sharded_init(self._run.key("critic"), self._run.mesh)

    @functools.cached_property
    def prm(self) -> Params:
        run = self._run
        return run.prm.sharded_init(run.key("prm"), run.mesh) if self._programs.score.inputs[3] else {}

    @functools.cached_property
    def frozen(self) -> dict[str, Params]:
        """Those that stand still in training, by role; {} where all are trained."""
        params = {"policy": self.policy, "critic": self.critic}
        trainables = self._programs.trainables
        return {role: t.frozen_of(params[role]) for role, t in trainables.items() if t.frozen_shapes}

    def take_state(self) -> State:
        """What is trained, given away: an update takes its buffers, and `give_state` brings the next one."""
        self.make_state()
        assert self._state is not None
        state, self._state = self._state, None
        return state

    def give_state(self, state: State) -> None:
        self._state = state

    def make_state(self) -> None:
        """Makes a fresh state, where there is none."""
        if self._state is None:
            like = self._programs.abstract_state
            made = self._programs.init_roles({"policy": self.policy, "critic": self.critic})
            coefficients = {name: like[name] for name in like if name not in made}
            made |= jax.tree.map(lambda x: put(np.full(x.shape, 0.1, x.dtype), x.sharding), coefficients)
            self._state = made
