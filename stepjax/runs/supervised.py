"""The loop of supervised training, shared by SFT and the process reward model: resume, update, log, save."""

from collections.abc import Callable
from typing import Any

import numpy as np
import optax

from stepjax.config import PRMOptions, SFTOptions
from stepjax.console.progress import progress, say
from stepjax.data.packing import PackedBatches
from stepjax.distributed import stop as stopping
from stepjax.distributed.watch import activity
from stepjax.errors import Stopped
from stepjax.learners.finite import finite_program
from stepjax.learners.optimizers import abstract_state, init_state, make_optimizer
from stepjax.learners.supervised import LossSums, train_program
from stepjax.models import Definition
from stepjax.models.definition import Params
from stepjax.models.trainable import join
from stepjax.parallel import batch_sharding, fetch, only_asked_transfers, put
from stepjax.runs.profile import Profile
from stepjax.runs.setup import Run, check_finite, check_state
from stepjax.runs.stages import frozen_params
from stepjax.runs.throughput import UpdateRates
from stepjax.workdir.checkpoints import Checkpoints
from stepjax.workdir.metrics import Metrics


def train(
    run: Run,
    stage: str,
    label: str,
    definition: Definition,
    sums: LossSums,
    options: SFTOptions | PRMOptions,
    *,
    batches: Callable[[], PackedBatches],
    initial: Callable[[], Params],
    valid: Callable[[Params], dict[str, Any]],
    optimizer: optax.GradientTransformation | None = None,
    values: bool = False,
) -> Params:
    """Trains to `options.updates` updates, from the last checkpoint where there is one, and returns the parameters.

    `batches`, `initial` and `valid` are only called where training has work left to do. `optimizer` replaces that
    of the options; with `values` the batches have soft labels.
    """
    optimizer = optimizer or make_optimizer(options.optimizer, options.updates)
    trainable, frozen = run.trainable(stage, definition), frozen_params(run, stage, definition)
    like = abstract_state(trainable, optimizer, run.mesh)
    with Checkpoints(run.checkpoint_folder(stage)) as checkpoints:
        done, position = 0, None
        if found := checkpoints.resume(like):
            state, host = found
            done, position = host["step"], host["data"]  # of the checkpoint that was whole, not of the newest
            if done >= options.updates:
                return join(state["params"], frozen)
        data = batches()
        if position is None:
            state = init_state(trainable.split(initial())[0], optimizer, like, run.mesh)
        else:
            data.restore(position)
        program = train_program(
            stage,
            sums,
            definition,
            optimizer,
            run.mesh,
            rows=options.rows,
            width=options.row_tokens,
            values=values,
            trainable=trainable,
        )
        finite = finite_program(like, run.mesh)
        sharding = batch_sharding(run.mesh)
        with (
            Metrics(run.workdir, stage) as metrics,
            progress(label, options.updates, start=done) as bar,
            only_asked_transfers(),
            stopping.current.region(done) as stop,
            Profile(run.config.profile, run.workdir, stage) as profile,
        ):
            metrics.resume(done)
            rates = UpdateRates(run, definition, options.rows * options.row_tokens)
            for step in range(done + 1, options.updates + 1):
                activity.now(f"{label} update {step}")
                with profile.step(step) as traced:
                    state, figures = program(state, put(next(data), sharding), *([frozen] if frozen else []))
                    traced.append(figures)
                rates.begin(step)
                last = step == options.updates
                ending = not last and stop.at(step)
                saving = last or step % options.checkpoint_every == 0
                if saving or step % options.log_every == 0:
                    line = {k: float(np.asarray(v)) for k, v in fetch(figures).items()}
                    check_finite(line, label, step)
                    line |= rates.at(step)
                    if saving:
                        check_state(finite, state, label, step)
                        line |= {f"valid/{k}": v for k, v in valid(join(state["params"], frozen)).items()}
                    metrics.write(step, line)
                    bar.advance(step - bar.done, loss=line["loss"])
                if saving or ending:
                    if not saving:
                        check_state(finite, state, label, step)
                    metrics.sync()
                    checkpoints.save(step, state, {"step": step, "data": data.state()})
                    rates.skip()
                checkpoints.raise_failed()
                if ending:
                    checkpoints.wait()
                    raise Stopped(f"{stop.reason}: {label} update {step} is saved")
            checkpoints.wait()
        if data.left_out:
            say(f"{label}: {data.left_out} examples longer than row_tokens={options.row_tokens} were left out")
        return join(state["params"], frozen)
