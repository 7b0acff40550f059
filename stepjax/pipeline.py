"""Runs stages in order, for `stepjax quickstart` and the single-stage commands."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stepjax.config import Config
from stepjax.console.progress import say
from stepjax.distributed.session import session
from stepjax.distributed.watch import activity
from stepjax.errors import UserError, nearest
from stepjax.evaluation.best_of_n import measure_best_of_n
from stepjax.evaluation.labels import measure_labels
from stepjax.evaluation.policies import evaluate
from stepjax.evaluation.prm import measure_prm, measure_prmbench, measure_processbench
from stepjax.evaluation.suite import kind_of, measure_suite, reads_own_problems
from stepjax.hacks.battery import run_battery
from stepjax.improve.stage import check_improve, train_improve
from stepjax.labels.command import label
from stepjax.parallel import is_main_process
from stepjax.report.page import write_report
from stepjax.runs.first_prompt import tell_first_prompt
from stepjax.runs.opening import open_run
from stepjax.runs.origin_parts import READING, TRAINING
from stepjax.runs.ppo import train_ppo
from stepjax.runs.prm import train_prm
from stepjax.runs.setup import Run
from stepjax.runs.sft import train_sft
from stepjax.runs.stages import check_stages
from stepjax.search.curves import measure_search
from stepjax.workdir.executions import executed


def measure(run: Run) -> dict[str, Any]:
    """Stage eval: the evaluation that `config.eval` names."""
    return KINDS[kind_of(run.config.eval)](run)


KINDS: dict[str, Callable[[Run], dict[str, Any]]] = {
    "policies": evaluate,
    "hacks": run_battery,
    "labels": measure_labels,
    "prm": measure_prm,
    "processbench": measure_processbench,
    "prmbench": measure_prmbench,
    "best_of_n": measure_best_of_n,
    "search": measure_search,
    "suite": measure_suite,
}


STAGES: dict[str, Callable[[Run], Any]] = {
    "sft": train_sft,
    "label": label,
    "prm": train_prm,
    "improve": train_improve,
    "ppo": train_ppo,
    "eval": measure,
}

CHECKS: dict[str, Callable[[Run], None]] = {"improve": check_improve}
"""What is refused before the first stage runs, besides `check_stages`."""


def run_stages(
    config: Config, workdir: Path, stages: Sequence[str] | None = None, *, accept_changed: bool = False
) -> None:
    """Runs stages in a work directory; by default those of the config and the evaluation; then the report.

    `accept_changed`: goes on where data, tokenizer, … are not those that the checkpoints were made of.
    """
    chosen = [*config.stages, "eval"] if stages is None else list(stages)
    for stage in chosen:
        if stage not in STAGES:
            raise UserError(f"config.stages: no stage {stage!r}{nearest(stage, STAGES)}")
    start = time.perf_counter()
    kinds = READING if chosen == ["eval"] else TRAINING
    opened = open_run(config, workdir, kinds=kinds, accept_changed=accept_changed)
    with session(config.distributed), opened as run:
        check_stages(run, chosen)
        for stage in chosen:
            if stage in CHECKS:
                CHECKS[stage](run)
        if chosen != ["eval"] or reads_own_problems(config.eval):
            tell_first_prompt(run)
        for stage in chosen:
            activity.now(f"stage {stage}")
            with executed(run.workdir, stage, run.mesh):
                STAGES[stage](run)
        activity.now("the report")
        if is_main_process():
            path = write_report(run.workdir)
            say(f"{path} (all in {time.perf_counter() - start:.0f} s)")
