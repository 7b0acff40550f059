"""`stepjax study NAME`."""

from dataclasses import dataclass
from pathlib import Path

from stepjax.console.progress import say, table
from stepjax.errors import UserError
from stepjax.options import no_more
from stepjax.options.seed_list import jobs_of, seeds_of
from stepjax.studies.registry import STUDIES, load

CREDIT = "credit"
"""The study that keeps figures of its own kind: rules, not arms."""

USAGE = "stepjax study NAME [--workdir=DIR] [--seeds=0:5] [--jobs=2] [--quick]; studies: " + ", ".join(
    (CREDIT, *STUDIES)
)


@dataclass(frozen=True)
class StudyArguments:
    """What a command line asks for."""

    name: str
    workdir: Path
    seeds: list[int]
    jobs: int
    quick: bool


def read_arguments(argv: list[str]) -> StudyArguments:
    """UserError: an unknown study or option, or a value that is none."""
    given = dict(a.partition("=")[::2] for a in argv if a.startswith(("--workdir=", "--seeds=", "--jobs=")))
    quick = "--quick" in argv
    names = [a for a in argv if a != "--quick" and a.partition("=")[0] not in given]
    no_more([a for a in names if a not in (CREDIT, *STUDIES)], USAGE)
    if len(names) != 1:
        raise UserError(USAGE)
    seeds = seeds_of("--seeds=" + given.get("--seeds", "0:2" if quick else "0:5"))
    workdir = Path(given.get("--workdir") or f"runs/study-{names[0]}{'-quick' if quick else ''}")
    jobs = jobs_of("--jobs=" + given.get("--jobs", "1"))
    if names[0] == CREDIT and "--jobs" in given:
        raise UserError(f"--jobs={jobs}: the study {CREDIT!r} runs in one process; leave it out")
    return StudyArguments(names[0], workdir, seeds, jobs, quick)


def study(argv: list[str]) -> None:
    """Runs a study, or what an earlier start left of it, and prints its tables.

    Raises:
      UserError: an unknown study or option, a work directory that another study wrote, a run that failed.
      Stopped: a signal ended the runs; it was passed on to them, and they saved what they have.
    """
    asked = read_arguments(argv)
    if asked.name == CREDIT:
        _credit(asked.workdir, asked.seeds, asked.quick)
        return
    from stepjax.studies.study_run import run_study

    run_study(load(asked.name), asked.workdir, asked.seeds, asked.jobs, asked.quick)


def _credit(workdir: Path, seeds: list[int], quick: bool) -> None:
    from stepjax.studies.credit_study import QUICK, Size, run_study
    from stepjax.studies.credit_tables import MEASURES, table_of, write_page
    from stepjax.studies.credit_writer import PHASES
    from stepjax.studies.study_run import REDUCED

    found = run_study(workdir, seeds, QUICK if quick else Size())
    for phase in PHASES:
        for measure, words in MEASURES.items():
            columns, rows = table_of(found, phase, measure)
            table(f"{phase} in training: {words}; mean ± 95 % interval, {len(seeds)} seeds", columns, rows)
    if quick:
        say(REDUCED)
    say(str(write_page(workdir / "study.html", found)))
