"""What one stage leaves for the next: the parameters in its last checkpoint."""

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


def stage_params(run: Run, stage: str, definition: Definition, *keys: str) -> Params:
    """The parameters of a stage's last checkpoint, in their shards; `keys` lead to the role inside the saved state."""
    if not has_stage(run, stage):
        raise UserError(
            f"{run.workdir}: stage {stage} has no checkpoint here; run `stepjax {stage}` with the same options first"
        )
    like: Any = abstract(definition.shapes, definition.shardings(run.mesh))
    with Checkpoints(run.checkpoint_folder(stage)) as checkpoints:
        return checkpoints.restore_part((*keys, "params"), like)
