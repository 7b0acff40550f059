"""What one stage leaves for the next: the parameters in its last checkpoint."""

from collections.abc import Sequence
from typing import Any

from stepjax.errors import UserError
from stepjax.models import Definition
from stepjax.models.definition import Params
from stepjax.programs import abstract
from stepjax.runs.checkpoints import Checkpoints
from stepjax.runs.setup import Run


def has_stage(run: Run, stage: str) -> bool:
    """Whether a stage has left a checkpoint."""
    with Checkpoints(run.checkpoint_folder(stage)) as checkpoints:
        return checkpoints.latest() is not None


def no_stage(run: Run, stage: str) -> UserError:
    return UserError(
        f"{run.workdir}: stage {stage} has no checkpoint here; run `stepjax {stage}` with the same options first"
    )


def stage_params(run: Run, stage: str, definition: Definition, *keys: str) -> Params:
    """The parameters of a stage's last checkpoint, in their shards; `keys` lead to the role inside the saved state."""
    if not has_stage(run, stage):
        raise no_stage(run, stage)
    like: Any = abstract(definition.shapes, definition.shardings(run.mesh))
    with Checkpoints(run.checkpoint_folder(stage)) as checkpoints:
        return checkpoints.restore_part((*keys, "params"), like)


def _check_stage(run: Run, stage: str, *, finished: bool) -> None:
    last = run.config.sft.updates if stage == "sft" else run.config.prm.updates
    with Checkpoints(run.checkpoint_folder(stage)) as checkpoints:
        step = checkpoints.latest()
    if step is None:
        raise no_stage(run, stage)
    if finished and step < last:
        raise UserError(f"{run.workdir}: stage {stage} stands at update {step} of {last}; let `stepjax {stage}` end it")


def check_stages(run: Run, stages: Sequence[str]) -> None:
    """UserError where a stage lacks an earlier one, or where the task cannot serve it."""
    signals = {name: stream.signal for name, stream in run.config.ppo.streams.items()}
    needs = {"prm": ["sft"], "ppo": ["sft", "prm"] if "prm" in signals.values() else ["sft"], "eval": ["sft"]}
    for i, stage in enumerate(stages):
        for need in needs.get(stage, []):
            if need not in stages[:i]:
                _check_stage(run, need, finished=stage != "eval")
    judged = ["stage prm"] if "prm" in stages else []
    if "ppo" in stages:
        judged += [f"config.ppo.streams.{name}" for name, signal in signals.items() if signal == "verifier"]
    if judged and run.task.judge(run.task.problems("train")[0], []) is None:
        raise UserError(f"{judged[0]} needs a judge of single steps, which task {run.task.name} does not have")
