"""The least work (`work.py`) of each program of a run, from the lengths of its responses."""

import jax
import numpy as np

from stepjax.bench.work import Model, Work, pass_work, rollout_work, training_work
from stepjax.runs.ppo_programs import PPOPrograms


class Costs:
    """Of programs on rows; `prompt` and `response` are int32[B], tokens of each row's."""

    def __init__(self, programs: PPOPrograms, slots: int):
        """`slots`: rows that decode at once."""
        self._programs, self._options, self._slots = programs, programs.options, slots
        run = programs.run
        self._models = {"policy": Model.of(run.policy, run.decoder, language=True)}
        if run.critic is not None:
            self._models["critic"] = Model.of(run.critic, run.decoder, language=False)
        if programs.score.inputs[3]:
            self._models["prm"] = Model.of(run.prm, run.decoder, language=False)

    def rollout(self, prompt: np.ndarray, response: np.ndarray) -> Work:
        once = prompt[:: self._options.samples]
        return rollout_work(self._models["policy"], once, prompt, response, self._slots)

    def score(self, prompt: np.ndarray, response: np.ndarray) -> Work:
        read = [self._models["policy"], *self._models.values()]  # the reference is as large as the policy
        return sum((pass_work(model, prompt, response) for model in read), Work(0.0, 0.0))

    def implicit(self, prompt: np.ndarray, response: np.ndarray) -> Work:
        """φ reads the responses, trains on them, and may read them again."""
        if (phi := self._programs.implicit) is None:
            return Work(0.0, 0.0)
        o, model = phi.options, self._models["policy"]
        read = [pass_work(model, prompt, response)] * phi.readings
        return sum([*read, *[training_work(model, prompt, response, o.minibatches)] * o.epochs], Work(0.0, 0.0))

    def credit(self, prompt: np.ndarray, response: np.ndarray) -> Work:
        """No matrix products; the whole columns that are read or written."""
        arrays = jax.tree.leaves((self._programs.credit.inputs, self._programs.credit.outputs()))
        return Work(0.0, float(sum(x.size * x.dtype.itemsize for x in arrays)))

    def update(self, prompt: np.ndarray, response: np.ndarray) -> Work:
        o = self._options
        trained = [self._models[role] for role in self._programs.trainables if role == "policy" or not o.critic_frozen]
        passes = (training_work(model, prompt, response, o.minibatches) for model in trained * o.epochs)
        return sum(passes, Work(0.0, 0.0))

    def iteration(self, prompt: np.ndarray, response: np.ndarray) -> Work:
        parts = (self.rollout, self.score, self.implicit, self.credit, self.update)
        return sum((part(prompt, response) for part in parts), Work(0.0, 0.0))
