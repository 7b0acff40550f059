"""Fingerprints of the checkpoints that a command reads: a work directory that was moved has the same ones."""

from stepjax.runs.setup import Run
from stepjax.runs.stages import stage_folder
from stepjax.workdir import checkpoint_format as fmt
from stepjax.workdir import origin
from stepjax.workdir.fingerprints import folder_print


def weights_of(run: Run, *stages: str) -> dict[str, str]:
    """The SHA-256 of each stage's last checkpoint, here or in the base; none of a stage without one, as a model of
    `config.model.path` is."""
    found = {}
    for stage in stages:
        if (newest := origin.newest(stage_folder(run, stage))) is not None:
            name = str(newest[1])
            if name not in run.prints:  # each is read once in a command
                run.prints[name] = folder_print(newest[1], without=fmt.is_beside)
            found[stage] = run.prints[name]["sha256"]
    return found
