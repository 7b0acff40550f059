"""Runs a study, or what an earlier start left of it: its processes, then tables, study.json and study.html."""

import os
import platform
import shlex
import signal
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from stepjax.console.ending import STOPPED
from stepjax.console.progress import say, table
from stepjax.distributed.signals import INTERRUPTED
from stepjax.errors import Stopped, UserError
from stepjax.runs.side_by_side import Job, run_jobs
from stepjax.studies.study import Found, Plan, Study
from stepjax.studies.study_jobs import Unit, figures_of, units_of
from stepjax.studies.study_page import write_page
from stepjax.studies.study_tables import tables_of
from stepjax.workdir.code_version import code_version
from stepjax.workdir.folder import in_use, open_workdir
from stepjax.workdir.json_file import plain, write_json

FILE, PAGE = "study.json", "study.html"
LIBRARIES = ("jax", "jaxlib", "numpy", "scipy")
ENDINGS = (STOPPED, INTERRUPTED, -signal.SIGTERM, -signal.SIGINT)
"""Exit statuses of runs that a signal ended."""

PATIENCE = 120.0
"""Seconds that runs of an earlier start have to end."""

REDUCED = "--quick: a reduced study; its figures are no result"


def run_study(study: Study, workdir: Path, seeds: Sequence[int], jobs: int, quick: bool) -> Found:
    """Runs what `workdir` lacks of these seeds, `jobs` processes at a time, and writes the page.

    A run that fails is named, with its log; the study goes on with the others and ends with an error.

    Raises:
      UserError: the work directory cannot be used or holds something else; some run failed.
      Stopped: a signal ended the runs; it was passed on to them, and they saved what they have.
    """
    plan = study.plan(quick)
    with open_workdir(workdir, {"study": study.name, "quick": quick}):
        units = units_of(study, plan, workdir, seeds, quick)
        if _wait(units):
            units = units_of(study, plan, workdir, seeds, quick)
        if done := [unit for unit in units if unit.job.status == 0]:
            say(f"{len(done)} of {len(units)} runs are finished already")
        received = run_jobs([unit.job for unit in units], jobs, started=_tell_start, ended=_tell_end)
        if received:
            raise Stopped("the study is stopped", interrupted=received[0] == signal.SIGINT)
        found = figures_of(units, plan)
        command = _command(study, workdir, seeds, jobs, quick)
        facts = facts_of(study, plan, seeds, command, quick)
        for title, columns, rows in (tables := tables_of(study, plan, found)):
            table(title, columns, rows)
        if quick:
            say(REDUCED)
        write_json(workdir / FILE, plain({**facts, "runs": [_run(u) for u in units], "figures": _listed(found)}))
        say(str(write_page(workdir / PAGE, study, found, tables, facts, units)))
    _refuse_failed(units)
    return found


def _wait(units: Sequence[Unit]) -> bool:
    """Waits until the runs of an earlier start, which was killed, have saved and ended; whether there were any."""
    end, waited = time.monotonic() + PATIENCE, False
    while time.monotonic() < end and any(in_use(unit.workdir) for unit in units):
        if not waited:
            say("waiting for runs of an earlier start to end")
        waited = True
        time.sleep(0.2)
    return waited


def _tell_start(job: Job) -> None:
    say(f"{job.name}: begins, output in {job.log_path}")


def _tell_end(job: Job) -> None:
    told = f"failed with status {job.status} ({job.last_line}); see {job.log_path}"
    if job.status in (0, *ENDINGS):
        told = "stopped" if job.status else "done"
    say(f"{job.name}: {told}, {job.took}")


def _refuse_failed(units: Sequence[Unit]) -> None:
    failed = [unit.job for unit in units if unit.job.status not in (0, None)]
    left = [unit.job for unit in units if unit.job.status is None]
    if failed:
        first = failed[0]
        waiting = f", and {len(left)} that go on from them were not started" if left else ""
        raise UserError(
            f"{len(failed)} of {len(units)} runs failed{waiting}; the first: {first.name} ({first.last_line}; "
            f"{first.log_path}); the page has the others, and the same command goes on"
        )


def _command(study: Study, workdir: Path, seeds: Sequence[int], jobs: int, quick: bool) -> str:
    words = ["stepjax", "study", study.name, f"--seeds={','.join(map(str, seeds))}", f"--jobs={jobs}"]
    return shlex.join([*words, f"--workdir={workdir}", *(["--quick"] if quick else [])])


def facts_of(study: Study, plan: Plan, seeds: Sequence[int], command: str, quick: bool) -> dict[str, Any]:
    """What a reader needs to repeat the study."""
    code = code_version()
    versions = {"stepjax": code["version"], "python": platform.python_version()}
    if code["commit"]:
        versions["commit"] = code["commit"]
    return {
        "study": study.name,
        "claim": study.claim,
        "command": command,
        "quick": quick,
        "seeds": list(seeds),
        "arms": [{"row": arm.row, "column": arm.column} for arm in plan.arms],
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "system": platform.system()},
        "versions": versions | {name: found for name in LIBRARIES if (found := _version(name))},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _run(unit: Unit) -> dict[str, Any]:
    state = {0: "done", None: "not started"}.get(unit.job.status, "failed")
    return {"name": unit.job.name, "seed": unit.seed, "state": state, "command": unit.command}


def _listed(found: Found) -> list[dict[str, Any]]:
    return [
        {"row": arm.row, "column": arm.column, "seed": seed, **figures}
        for arm, by_seed in found.items()
        for seed, figures in by_seed.items()
    ]
