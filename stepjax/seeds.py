"""A run a seed: the same command with other seeds, in processes and work directories of their own."""

import contextlib
import dataclasses
import functools
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from stepjax.console.progress import say
from stepjax.console.terminal import duration
from stepjax.distributed.signals import heard
from stepjax.errors import Stopped, UserError
from stepjax.options import parse
from stepjax.options.names import COMMANDS
from stepjax.options.seed_list import seeds_of
from stepjax.workdir.fingerprints import ACCEPT
from stepjax.workdir.folder import CONFIG
from stepjax.workdir.json_file import read_json

SEEDS, JOBS = "--seeds", "--jobs"
PERIOD = 0.2
"""Seconds between two looks at the processes."""


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
    jobs = given[JOBS][-1].partition("=")[2] if given[JOBS] else "1"
    if not re.fullmatch(r"[1-9]\d{0,3}", jobs):
        raise UserError(f"{given[JOBS][-1]}: name how many runs there are at a time, as in {JOBS}=2")
    if any(re.match(r"--?config\.seed=", argument) for argument in rest):
        raise UserError(f"{SEEDS} sets config.seed; leave --config.seed out")
    return Seeds(tuple(seeds), int(jobs)), rest


@dataclass
class _Job:
    """The run of one seed."""

    seed: int
    workdir: Path
    argv: list[str]
    process: subprocess.Popen | None = None
    log: IO[bytes] | None = None
    began: float = 0.0
    status: int | None = None

    @property
    def log_path(self) -> Path:
        return self.workdir.with_name(f"{self.workdir.name}.log")


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
    jobs = [_job(seed, section, argv, home) for seed in seeds.seeds]
    for job in jobs:  # a mistake ends the command before anything runs
        config = parse(_options(job.argv), section, remember=True).config
        if command == "quickstart" and _finished(job.workdir, dataclasses.asdict(config)):
            job.status = 0
            say(f"seed {job.seed}: finished already: {_outcome(job.workdir)} ({job.workdir})")
    received: list[int] = []
    with _passed_on(jobs, received):
        waiting = [job for job in jobs if job.status is None]
        while any(job.status is None for job in waiting):
            running = [job for job in waiting if job.process is not None and job.status is None]
            free = seeds.jobs - len(running) if not received else 0
            for job in [job for job in waiting if job.process is None][: max(free, 0)]:
                _start(command, job, aside=seeds.jobs > 1)
            if received and not running:
                break
            time.sleep(PERIOD)
            for job in running:
                _look_after(job)
    failed = [job for job in jobs if job.status]
    if received:
        raise Stopped("the runs are stopped", interrupted=received[0] == signal.SIGINT)
    if failed:
        first = failed[0]
        raise UserError(
            f"{len(failed)} of {len(jobs)} runs failed, seed {first.seed} with status {first.status}"
            + (f" ({_last_line(first.log_path)})" if seeds.jobs > 1 else "")
            + "; the same command goes on with those that are not finished"
        )


def _job(seed: int, section: str, argv: Sequence[str], home: Path) -> _Job:
    rest = [argument.replace("{seed}", str(seed)) for argument in argv]
    named = parse(_options(rest), section).workdir
    workdir = Path(f"{home if named is None else named}-s{seed}")
    return _Job(seed, workdir, [*rest, f"--config.seed={seed}", f"--workdir={workdir}"])


def _options(argv: Sequence[str]) -> list[str]:
    return [argument for argument in argv if argument != ACCEPT]


def _finished(workdir: Path, options: dict[str, Any]) -> bool:
    """Whether all stages of a work directory have run with these options, and its report is written."""
    if read_json(workdir / CONFIG) != json.loads(json.dumps(options)):
        return False
    report, last = workdir / "report.html", workdir / "metrics.jsonl"
    return report.is_file() and last.is_file() and report.stat().st_mtime >= last.stat().st_mtime


def _start(command: str, job: _Job, *, aside: bool) -> None:
    job.workdir.parent.mkdir(parents=True, exist_ok=True)
    try:
        job.log = open(job.log_path, "ab") if aside else None  # noqa: SIM115 - the process writes it
    except OSError as error:
        raise UserError(f"{job.log_path} cannot be written: {error.strerror}") from error
    say(f"seed {job.seed}: {job.workdir}" + (f", output in {job.log_path}" if aside else ""))
    job.began = time.monotonic()
    # Of its own session: a terminal's Ctrl-C reaches it once, from here.
    job.process = subprocess.Popen(
        [sys.executable, "-m", "stepjax.cli", command, *job.argv],
        stdout=job.log,
        stderr=job.log,
        start_new_session=True,
    )


def _look_after(job: _Job) -> None:
    assert job.process is not None
    job.status = job.process.poll()
    if job.status is None:
        return
    if job.log is not None:
        job.log.close()
    took = duration(time.monotonic() - job.began)
    told = _outcome(job.workdir) if job.status == 0 else f"ended with status {job.status}"
    say(f"seed {job.seed}: {told}, {took} ({job.workdir})")


@contextlib.contextmanager
def _passed_on(jobs: Sequence[_Job], received: list[int]) -> Iterator[None]:
    """Inside, Ctrl-C and SIGTERM go to the runs, each time that they come; `received` gets their numbers."""

    def pass_on(number: int) -> None:
        received.append(number)
        for job in jobs:
            if job.process is not None and job.process.poll() is None:
                job.process.send_signal(number)

    try:
        with heard({n: functools.partial(pass_on, n) for n in (signal.SIGINT, signal.SIGTERM)}):
            yield
    finally:
        for job in jobs:  # what ended the loop otherwise must not leave runs behind
            if job.process is not None and job.process.poll() is None:
                job.process.terminate()


def _outcome(workdir: Path) -> str:
    """How a run came out, by its evaluation: the right answers before and after."""
    rows = read_json(workdir / "eval.json").get("rows")
    known = [row.get("accuracy") for row in rows.values() if isinstance(row, dict)] if isinstance(rows, dict) else []
    shares = [f"{100 * x:.1f} %" for x in known if isinstance(x, float | int)]
    return f"right answers {' → '.join(shares)}" if shares else "done"


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines() if path.is_file() else []
    return lines[-1].removeprefix("stepjax: ") if lines else "it printed nothing"
