"""A run a seed: the same command with other seeds, in processes and work directories of their own."""

import dataclasses
import json
import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stepjax.console.progress import say
from stepjax.errors import Stopped, UserError
from stepjax.options import parse
from stepjax.options.names import COMMANDS
from stepjax.options.seed_list import jobs_of, seeds_of
from stepjax.runs.side_by_side import Job, finished, run_jobs
from stepjax.workdir.fingerprints import ACCEPT
from stepjax.workdir.folder import CONFIG
from stepjax.workdir.json_file import read_json

SEEDS, JOBS = "--seeds", "--jobs"


@dataclass(frozen=True)
class Seeds:
    """What `--seeds` and `--jobs` ask for: the seeds, and how many runs there are at a time."""

    seeds: tuple[int, ...]
    jobs: int = 1


def take_seeds(argv: Sequence[str]) -> tuple[Seeds | None, list[str]]:
    """The seeds that a command line asks for (None: it names none), and its other arguments.

    UserError where they are no list of whole numbers, or come with a seed or without a number of jobs.
    """
    given = {name: [a for a in argv if a.partition("=")[0] == name] for name in (SEEDS, JOBS)}
    rest = [a for a in argv if a.partition("=")[0] not in given]
    if not given[SEEDS]:
        if given[JOBS]:
            raise UserError(f"{given[JOBS][-1]}: it needs {SEEDS}, as in {SEEDS}=0,1,2 {JOBS}=3")
        return None, rest
    seeds = seeds_of(given[SEEDS][-1])
    jobs = jobs_of(given[JOBS][-1]) if given[JOBS] else 1
    if any(re.match(r"--?config\.seed=", argument) for argument in rest):
        raise UserError(f"{SEEDS} sets config.seed; leave --config.seed out")
    return Seeds(tuple(seeds), jobs), rest


@dataclass
class _Run:
    """The run of one seed."""

    seed: int
    workdir: Path
    job: Job


def run_seeds(command: str, seeds: Seeds, argv: Sequence[str], home: Path) -> None:
    """Runs a command once a seed, into WORKDIR-s0 …, and says in one line each how it came out.

    In turn they print what the command prints; side by side each writes that to WORKDIR-s0.log. `{seed}` in an argument
    is the seed. A run of all stages that is finished already, with these options, is not started again.

    Args:
      argv: the command's arguments, without a seed.
      home: WORKDIR where the arguments name none.

    Raises:
      UserError: some run was refused or failed.
      Stopped: a signal ended the runs; it was passed on to them, and they saved what they have.
    """
    section = command if command in COMMANDS else ""
    runs = [_run(seed, command, section, argv, home, aside=seeds.jobs > 1) for seed in seeds.seeds]
    for run in runs:  # a mistake ends the command before anything runs
        config = parse(_options(run.job.argv[2:]), section, remember=True).config
        options = json.loads(json.dumps(dataclasses.asdict(config)))
        if command == "quickstart" and finished(run.workdir, options, CONFIG):
            run.job.status = 0
            say(f"seed {run.seed}: finished already: {_outcome(run.workdir)} ({run.workdir})")
    by_job = {id(run.job): run for run in runs}
    received = run_jobs(
        [run.job for run in runs],
        seeds.jobs,
        started=lambda job: _tell_start(by_job[id(job)]),
        ended=lambda job: _tell_end(by_job[id(job)]),
    )
    failed = [run for run in runs if run.job.status]
    if received:
        raise Stopped("the runs are stopped", interrupted=received[0] == signal.SIGINT)
    if failed:
        first = failed[0]
        raise UserError(
            f"{len(failed)} of {len(runs)} runs failed, seed {first.seed} with status {first.job.status}"
            + (f" ({first.job.last_line})" if seeds.jobs > 1 else "")
            + "; the same command goes on with those that are not finished"
        )


def _run(seed: int, command: str, section: str, argv: Sequence[str], home: Path, *, aside: bool) -> _Run:
    rest = [argument.replace("{seed}", str(seed)) for argument in argv]
    named = parse(_options(rest), section).workdir
    workdir = Path(f"{home if named is None else named}-s{seed}")
    arguments = [*rest, f"--config.seed={seed}", f"--workdir={workdir}"]
    log = workdir.with_name(f"{workdir.name}.log") if aside else None
    return _Run(seed, workdir, Job(f"seed {seed}", ["stepjax.cli", command, *arguments], log))


def _options(argv: Sequence[str]) -> list[str]:
    return [argument for argument in argv if argument != ACCEPT]


def _tell_start(run: _Run) -> None:
    log = run.job.log_path
    say(f"{run.job.name}: {run.workdir}" + ("" if log is None else f", output in {log}"))


def _tell_end(run: _Run) -> None:
    told = _outcome(run.workdir) if run.job.status == 0 else f"ended with status {run.job.status}"
    say(f"{run.job.name}: {told}, {run.job.took} ({run.workdir})")


def _outcome(workdir: Path) -> str:
    """How a run came out, by its evaluation: the right answers before and after."""
    rows = read_json(workdir / "eval.json").get("rows")
    known = [row.get("accuracy") for row in rows.values() if isinstance(row, dict)] if isinstance(rows, dict) else []
    shares = [f"{100 * x:.1f} %" for x in known if isinstance(x, float | int)]
    return f"right answers {' → '.join(shares)}" if shares else "done"
