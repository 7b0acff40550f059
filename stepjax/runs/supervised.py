"""The loop of supervised training, shared by SFT and the process reward model: resume, update, log, save."""

from collections.abc import Callable
from typing import Any

import numpy as np

from stepjax.config import PRMOptions, SFTOptions
from stepjax.data.packing import PackedBatches
from stepjax.learners.finite import finite_program
from stepjax.learners.optimizers import abstract_state, init_state, make_optimizer
from stepjax.learners.supervised import LossSums, train_program
from stepjax.models import Definition
from stepjax.models.definition import Params
from stepjax.parallel import batch_sharding, fetch, only_asked_transfers, put
from stepjax.runs.checkpoints import Checkpoints
from stepjax.runs.metrics import Metrics
from stepjax.runs.progress import progress
from stepjax.runs.setup import Run, check_finite, check_state


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
) -> Params:
    """Trains to `options.updates` updates, from the last checkpoint where there is one, and returns the parameters.

    `batches`, `initial` and `valid` are only called where training has work left to do.
    """
    optimizer = make_optimizer(options.optimizer, options.updates)
    like = abstract_state(definition, optimizer, run.mesh)
    with Checkpoints(run.checkpoint_folder(stage)) as checkpoints:
        done, position = 0, None
        if found := checkpoints.resume(like):
            state, host = found
            done, position = host["step"], host["data"]  # of the checkpoint that was whole, not of the newest
            if done >= options.updates:
                return state["params"]
        data = batches()
        if position is None:
            state = init_state(initial(), optimizer, like, run.mesh)
        else:
            data.restore(position)
        program = train_program(
            stage, sums, definition, optimizer, run.mesh, rows=options.rows, width=options.row_tokens
        )
        finite = finite_program(like, run.mesh)
        sharding = batch_sharding(run.mesh)
        with (
            Metrics(run.workdir, stage) as metrics,
            progress(label, options.updates, start=done) as bar,
            only_asked_transfers(),
        ):
            metrics.resume(done)
            for step in range(done + 1, options.updates + 1):
                state, figures = program(state, put(next(data), sharding))
                last = step == options.updates
                saving = last or step % options.checkpoint_every == 0
                if saving or step % options.log_every == 0:
                    line = {k: float(np.asarray(v)) for k, v in fetch(figures).items()}
                    check_finite(line, label, step)
                    if saving:
                        check_state(finite, state, label, step)
                        line |= {f"valid/{k}": v for k, v in valid(state["params"]).items()}
                    metrics.write(step, line)
                    bar.advance(step - bar.done, loss=line["loss"])
                if saving:
                    metrics.sync()
                    checkpoints.save(step, state, {"step": step, "data": data.state()})
            checkpoints.wait()
        if data.left_out:
            print(f"{label}: {data.left_out} examples longer than row_tokens={options.row_tokens} were left out")
        return state["params"]
