"""Stages in order: what `stepjax quickstart` and the single-stage commands run."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stepjax.config import Config
from stepjax.errors import UserError
from stepjax.options import nearest
from stepjax.runs.evaluate import evaluate
from stepjax.runs.hack_battery import run_battery
from stepjax.runs.ppo import train_ppo
from stepjax.runs.prm import train_prm
from stepjax.runs.report import write_report
from stepjax.runs.setup import Run, open_run
from stepjax.runs.sft import train_sft
from stepjax.runs.stages import check_stages


def measure(run: Run) -> dict[str, Any]:
    """Stage eval: what `config.eval.kind` names."""
    return run_battery(run) if run.config.eval.kind == "hacks" else evaluate(run)


STAGES: dict[str, Callable[[Run], Any]] = {"sft": train_sft, "prm": train_prm, "ppo": train_ppo, "eval": measure}


def run_stages(config: Config, workdir: Path, stages: Sequence[str] | None = None) -> None:
    """Runs stages in a work directory; by default those of the config, then the evaluation; always the report."""
    chosen = [*config.stages, "eval"] if stages is None else list(stages)
    for stage in chosen:
        if stage not in STAGES:
            raise UserError(f"config.stages: no stage {stage!r}{nearest(stage, STAGES)}")
    start = time.perf_counter()
    with open_run(config, workdir) as run:
        check_stages(run, chosen)
        for stage in chosen:
            STAGES[stage](run)
        path = write_report(run.workdir)
        print(f"{path} (all in {time.perf_counter() - start:.0f} s)")
