"""The policy that completes or judges: a stage of this run, or of another work directory."""

import dataclasses
from pathlib import Path
from typing import Any

from stepjax.errors import UserError
from stepjax.labels.completer import Completer, same_tokenizer
from stepjax.models.definition import Params
from stepjax.runs.base import check_base
from stepjax.runs.setup import Run
from stepjax.runs.stages import policy_params, stage_folder
from stepjax.runs.weights import weights_of
from stepjax.workdir.checkpoints import Checkpoints


def load_policy(run: Run) -> tuple[Params, dict[str, Any]]:
    """The parameters of `label.stage` and their origin: work directory, stage, step."""
    options = run.config.label
    there = run
    if options.completer:
        folder = Path(options.completer).absolute()
        try:
            check_base(dataclasses.replace(run.config, base=options.completer))
        except UserError as error:
            raise UserError(str(error).replace("config.base", "config.label.completer")) from None
        if not same_tokenizer(run, folder):
            raise UserError(
                f"config.label.completer={options.completer}: its tokenizer differs from this run's; "
                "solutions must be sampled in its own work directory"
            )
        there = dataclasses.replace(run, workdir=folder)
    params = policy_params(there, options.stage)
    folder = stage_folder(there, options.stage)
    with Checkpoints(folder) as checkpoints:
        step = checkpoints.latest()
    return params, {"workdir": str(folder.parent.parent), "stage": options.stage, "step": step}


def label_weights(run: Run) -> dict[str, str]:
    """The fingerprint of the checkpoint that `load_policy` reads."""
    options = run.config.label
    there = dataclasses.replace(run, workdir=Path(options.completer).absolute()) if options.completer else run
    return weights_of(there, options.stage)


def load_completer(run: Run) -> tuple[Completer, dict[str, Any]]:
    """The completer that the options name, and its name."""
    options = run.config.label
    params, named = load_policy(run)
    return Completer(run, params, rows=options.rows, temperature=options.temperature, seed=options.seed), named
