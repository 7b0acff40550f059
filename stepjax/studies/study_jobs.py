"""The processes of a study: which commands there are, in which work directories, which of them are done.

A training run is a `stepjax quickstart` that anybody can start by hand; an exact world has one process a seed.
"""

import dataclasses
import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stepjax.options import parse
from stepjax.runs.side_by_side import Job, finished
from stepjax.studies.exact_seed import FILE, MODULE, is_measured, read_figures
from stepjax.studies.study import Arm, Figures, Found, Plan, Study
from stepjax.workdir.folder import CONFIG

PROGRAMS = "programs"
"""Folder of the compiled programs that the runs of a study share."""


@dataclass(frozen=True)
class Unit:
    """A process of a study: the job, the work directory that it fills, its seed, the arms whose figures lie there."""

    job: Job
    workdir: Path
    seed: int
    arms: tuple[Arm, ...]

    @property
    def command(self) -> str:
        """What a person would type."""
        module, *rest = self.job.argv
        return shlex.join(["stepjax", *rest] if module == "stepjax.cli" else ["python", "-m", module, *rest])


def units_of(study: Study, plan: Plan, folder: Path, seeds: Sequence[int], quick: bool) -> list[Unit]:
    """All processes, bases before the arms that go on from them; those that are done have status 0.

    Raises:
      UserError: an option of an arm is none.
    """
    shared: dict[str, Unit] = {}
    for name, options in plan.shared.items():
        shared[name] = _training(name, options, folder, 0, (), shared)
    found = list(shared.values())
    for seed in seeds:
        if plan.exact is not None:
            argv = [MODULE, study.name, f"--seed={seed}", *(["--quick"] if quick else [])]
            unit = _unit(f"seed {seed}", argv, folder / f"s{seed}", seed, tuple(plan.arms))
            if is_measured(unit.workdir / FILE, plan.arms):
                unit.job.status = 0
            found.append(unit)
            continue
        bases = dict(shared)
        for name, options in plan.bases.items():
            bases[name] = _training(name, options, folder, seed, (), bases)
            found.append(bases[name])
        for arm in plan.arms:
            options = (*arm.options, f"--config.base={{{arm.base}}}") if arm.base else arm.options
            found.append(_training(arm.name, options, folder, seed, (arm,), bases))
    env = {**shared_programs(folder / PROGRAMS), **(fast_compilation() if quick else {})}
    for unit in found:
        unit.job.env = env
    return found


def _training(
    name: str, options: Sequence[str], folder: Path, seed: int, arms: tuple[Arm, ...], bases: Mapping[str, Unit]
) -> Unit:
    """A training run, after those of the `bases` that its options name."""
    after = [base.job for key, base in bases.items() if any(f"{{{key}}}" in option for option in options)]
    for key, base in bases.items():
        options = [option.replace(f"{{{key}}}", str(base.workdir)) for option in options]
    workdir = folder / f"{re.sub(r'[^A-Za-z0-9._-]+', '_', name)}-s{seed}"
    argv = ["stepjax.cli", "quickstart", *options, f"--config.seed={seed}"]
    unit = _unit(f"{name}, seed {seed}", argv, workdir, seed, arms, after)
    config = parse(unit.job.argv[2:], "", remember=True).config
    if finished(workdir, json.loads(json.dumps(dataclasses.asdict(config))), CONFIG):
        unit.job.status = 0
    return unit


def _unit(
    name: str, argv: list[str], workdir: Path, seed: int, arms: tuple[Arm, ...], after: Sequence[Job] = ()
) -> Unit:
    job = Job(
        name,
        [*argv, f"--workdir={workdir}"],
        log_path=workdir.with_name(f"{workdir.name}.log"),
        after=after,
    )
    return Unit(job, workdir, seed, arms)


def shared_programs(folder: Path) -> Mapping[str, str]:
    """Variables with which JAX keeps every compiled program in a folder, and takes it from there; in the one that
    JAX_COMPILATION_CACHE_DIR names already, if it does."""
    return {
        "JAX_COMPILATION_CACHE_DIR": os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(folder),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def fast_compilation() -> Mapping[str, str]:
    """Variables with which XLA leaves out slow passes: for runs that compile most of their time."""
    return {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0".strip()}


def figures_of(units: Sequence[Unit], plan: Plan) -> Found:
    """The figures of those processes that are done."""
    found: dict[Arm, dict[int, Figures]] = {arm: {} for arm in plan.arms}
    for unit in units:
        if unit.job.status != 0:
            continue
        if plan.exact is not None:
            figures = read_figures(unit.workdir / FILE)
            for arm in unit.arms:
                found[arm][unit.seed] = figures[arm.row, arm.column]
        elif plan.read is not None:
            for arm in unit.arms:
                found[arm][unit.seed] = plan.read(unit.workdir)
    return found
