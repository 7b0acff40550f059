"""The loop of supervised training, shared by SFT and the process reward model: resume, update, log, save."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from stepjax.console.progress import progress, say
from stepjax.data.packing import PackedBatches
from stepjax.distributed import stop as stopping
from stepjax.distributed.watch import activity
from stepjax.errors import Stopped
from stepjax.learners.optimizers import State, init_state
from stepjax.learners.supervised import put_batch
from stepjax.models.definition import Params
from stepjax.models.trainable import join
from stepjax.parallel import fetch, only_asked_transfers
from stepjax.runs.origins import StageOrigin
from stepjax.runs.profile import Profile
from stepjax.runs.setup import check_finite, check_state
from stepjax.runs.stages import frozen_params
from stepjax.runs.supervised_programs import SupervisedPrograms
from stepjax.runs.throughput import UpdateRates
from stepjax.workdir.checkpoints import Checkpoints
from stepjax.workdir.sinks import open_metrics


def train(
    programs: SupervisedPrograms,
    label: str,
    *,
    batches: Callable[[], PackedBatches],
    initial: Callable[[], Params],
    valid: Callable[[Params], dict[str, Any]],
    before: int = 0,
    about: Callable[[], dict[str, float]] = dict,
    reference: Params | None = None,
) -> Params:
    """Trains for `options.updates` updates, from the last checkpoint where there is one, and returns the parameters.

    Args:
      label: what people read.
      batches, initial, valid, about: only called where training has work left to do. `valid` gives the figures of
        parameters at a checkpoint, `about` those that every logged line has, too.
      before: updates of earlier rounds of the stage. A checkpoint there is their end, and this round begins anew.
      reference: the last argument of the programs' update, where it takes one.
    """
    run, stage = programs.run, programs.stage
    frozen = frozen_params(run, stage, programs.definition)
    origin = StageOrigin(run, stage)
    with Checkpoints(run.checkpoint_folder(stage), origin=origin.write) as checkpoints:
        done, position = 0, None
        if found := checkpoints.resume(programs.abstract_state):
            state, host = found
            done, position = host["step"], host["data"]  # of the checkpoint that was whole, not of the newest
            if done >= before + programs.options.updates:
                return join(state["params"], frozen)
            position = position if done > before else None
        origin.begin()
        data = batches()
        if position is None:
            trained, _ = programs.trainable.split(initial())
            state = init_state(trained, programs.optimizer, programs.abstract_state, run.mesh)
            del trained  # the state has a copy
        else:
            data.restore(position)
        still = (*([frozen] if frozen else []), *([] if reference is None else [reference]))
        updates = _Updates(programs, label, data, checkpoints, frozen, valid, before, about(), still)
        state = updates.from_update(done, state)
        if data.left_out:
            width = programs.options.row_tokens
            say(f"{label}: {data.left_out} examples longer than row_tokens={width} were left out")
        return join(state["params"], frozen)


@dataclasses.dataclass(frozen=True)
class _Updates:
    """The updates of a stage: what each takes, and what is logged, checked and saved when it is due."""

    programs: SupervisedPrograms
    label: str
    data: PackedBatches
    checkpoints: Checkpoints
    frozen: Params
    valid: Callable[[Params], dict[str, Any]]
    before: int
    about: dict[str, float]
    still: tuple[Params, ...]

    def from_update(self, done: int, state: State) -> State:
        """The state after the last update; Stopped where the run is told to end before it."""
        run, stage, options = self.programs.run, self.programs.stage, self.programs.options
        end = self.before + options.updates
        with (
            open_metrics(run.workdir, stage, run.config) as metrics,
            progress(self.label, options.updates, start=done - self.before) as bar,
            only_asked_transfers(),
            stopping.current.region(done) as stop,
            Profile(run.config.profile, run.workdir, stage) as profile,
        ):
            metrics.resume(done)
            rates = UpdateRates(run, self.programs.definition, options.rows * options.row_tokens)
            for step in range(done + 1, end + 1):
                activity.now(f"{self.label} update {step}")
                with profile.step(step) as traced:
                    batch = put_batch(next(self.data), run.mesh)
                    state, figures = self.programs.update(state, batch, *self.still)
                    traced.append(figures)
                rates.begin(step)
                last = step == end
                ending = not last and stop.at(step)
                saving = last or step % options.checkpoint_every == 0
                if saving or step % options.log_every == 0:
                    line = self._checked(figures, step) | rates.at(step) | self.about
                    if saving:
                        self._check(state, step)
                        found = self.valid(join(state["params"], self.frozen))
                        line |= {f"valid/{name}": value for name, value in found.items()}
                    metrics.write(step, line)
                    bar.advance(step - self.before - bar.done, loss=line["loss"])
                if saving or ending:
                    if not saving:
                        self._check(state, step)
                    metrics.sync()
                    self.checkpoints.save(step, state, {"step": step, "data": self.data.state()})
                    rates.skip()
                self.checkpoints.raise_failed()
                if ending:
                    self.checkpoints.wait()
                    told = f"{stop.reason}: {self.label} update {step} is saved"
                    raise Stopped(told, interrupted=stop.interrupted)
            self.checkpoints.wait()
        return state

    def _checked(self, figures: dict[str, Any], step: int) -> dict[str, float]:
        """An update's figures on the host; NonFiniteError at a loss or gradient that is not finite."""
        line = {name: float(np.asarray(value)) for name, value in fetch(figures).items()}
        check_finite(line, self.label, step)
        return line

    def _check(self, state: State, step: int) -> None:
        check_state(self.programs.finite, state, self.label, step)
