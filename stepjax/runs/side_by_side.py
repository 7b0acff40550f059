"""Commands of runs as processes, so many at a time: signals reach all of them, and none outlives this process."""

import contextlib
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from stepjax.console.terminal import duration
from stepjax.distributed.signals import heard
from stepjax.errors import UserError
from stepjax.workdir.json_file import read_json

PERIOD = 0.2
"""Seconds between two looks at the processes."""

_BOUND = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15)  # PR_SET_PDEATHSIG: SIGTERM when the parent is gone, even by SIGKILL; exec keeps it
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""
"""A program that becomes another one, which ends with its parent. (A function between fork and exec would do without,
but must not run in a process of many threads, as JAX makes it.)"""


@dataclass
class Job:
    """One command, `python -m MODULE ARGUMENTS`.

    Attributes:
      argv: the module and its arguments.
      log_path: the file that its output is appended to; None: it goes where this process's output goes.
      env: variables beside those of this process.
      after: jobs that must have ended well before this one starts.
      status: its exit status; None: not ended, or never started.
      seconds: how long it ran.
    """

    name: str
    argv: list[str]
    log_path: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    after: Sequence["Job"] = ()
    status: int | None = None
    seconds: float = 0.0
    process: subprocess.Popen | None = None
    _log: IO[bytes] | None = None
    _began: float = 0.0

    @property
    def running(self) -> bool:
        return self.process is not None and self.status is None

    @property
    def startable(self) -> bool:
        return self.process is None and self.status is None and all(job.status == 0 for job in self.after)

    def start(self) -> None:
        """Starts the process; UserError where its log cannot be written."""
        if self.log_path is not None:
            try:
                self.log_path.parent.mkdir(parents=True, exist_ok=True)
                self._log = open(self.log_path, "ab")  # noqa: SIM115 - the process writes it
            except OSError as error:
                raise UserError(f"{self.log_path} cannot be written: {error.strerror}") from error
        self._began = time.monotonic()
        # Of its own session: a terminal's Ctrl-C reaches it once, from here.
        self.process = subprocess.Popen(
            [*_binding(), sys.executable, "-m", *self.argv],
            stdout=self._log,
            stderr=self._log,
            env={**os.environ, **self.env} if self.env else None,
            start_new_session=True,
        )

    def look(self) -> bool:
        """Whether it has ended since the last look."""
        if not self.running or self.process is None or self.process.poll() is None:
            return False
        self.status, self.seconds = self.process.returncode, time.monotonic() - self._began
        if self._log is not None:
            self._log.close()
        return True

    @property
    def took(self) -> str:
        return duration(self.seconds)

    @property
    def last_line(self) -> str:
        """The last line that it wrote to its log."""
        path = self.log_path
        known = path is not None and path.is_file()
        lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines() if path and known else []
        return lines[-1].removeprefix("stepjax: ") if lines else "it printed nothing"


def run_jobs(
    jobs: Sequence[Job],
    at_once: int,
    *,
    started: Callable[[Job], object] = lambda job: None,
    ended: Callable[[Job], object] = lambda job: None,
) -> list[int]:
    """Runs those jobs that have no status yet, and returns the signals that came meanwhile.

    After a signal, which all running jobs get, no other job is started. A job that waits for one that failed is never
    started; it keeps a status of None.
    """
    received: list[int] = []
    with _passed_on(jobs, received):
        while True:
            running = [job for job in jobs if job.running]
            free = at_once - len(running) if not received else 0
            for job in [job for job in jobs if job.startable][: max(free, 0)]:
                started(job)
                job.start()
                if received and job.process is not None:  # while this one was started
                    job.process.send_signal(received[-1])
                running.append(job)
            if not running:
                return received
            time.sleep(PERIOD)
            for job in running:
                if job.look():
                    ended(job)


def finished(workdir: Path, options: Mapping[str, object], config: str) -> bool:
    """Whether all stages of a work directory have run with these options (as JSON), and its report is written."""
    if read_json(workdir / config) != options:
        return False
    report, last = workdir / "report.html", workdir / "metrics.jsonl"
    return report.is_file() and last.is_file() and report.stat().st_mtime >= last.stat().st_mtime


@contextlib.contextmanager
def _passed_on(jobs: Sequence[Job], received: list[int]) -> Iterator[None]:
    """Inside, Ctrl-C and SIGTERM go to the jobs, each time that they come; `received` gets their numbers."""

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


def _binding() -> list[str]:
    """What comes before a command so that it ends with this process; nothing where the system has no such thing."""
    return [sys.executable, "-I", "-S", "-c", _BOUND, str(os.getpid())] if sys.platform == "linux" else []
