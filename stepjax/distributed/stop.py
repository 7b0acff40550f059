"""Stopping a run on request: every process finishes the same step, saves it, and ends.

A loop that can save itself opens a `region` and asks `at(step)` after each step. A request (SIGTERM, Ctrl-C, a notice
of maintenance) reaches one process or several, at any moment. Once a process has received it, it publishes the step
that it is in and goes no further until all have done so: the latest of these steps is the one that all of them can
reach.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

INTERRUPT = "Ctrl-C"
"""The reason of a request that a person made at the keyboard."""


class Stop:
    """A request to stop, and the step at which the processes stop.

    Attributes:
      reason: the source of the request, in a few words; None without a request.
      asked: `time.monotonic()` of the request.
    """

    def __init__(self, processes: int = 1):
        self.processes = processes
        self.reason: str | None = None
        self.asked = 0.0
        self._changed = threading.Condition()
        self._inside = False
        self._committed = 0
        self._target: int | None = None

    def request(self, reason: str) -> None:
        """Asks to stop; the first reason counts. May be called from any thread."""
        with self._changed:
            if self.reason is None:
                self.reason, self.asked = reason, time.monotonic()
                self._changed.notify_all()

    @property
    def interrupted(self) -> bool:
        """Whether it was a person who asked, at this process or at another one."""
        return self.reason is not None and self.reason.endswith(INTERRUPT)

    @property
    def inside(self) -> bool:
        """Whether a loop that can save itself is running."""
        return self._inside

    @contextmanager
    def region(self, done: int) -> Iterator[Self]:
        """A loop that has finished its steps up to `done`."""
        with self._changed:
            self._inside, self._committed, self._target = True, done + 1, None
        try:
            yield self
        finally:
            self._inside = False

    def at(self, step: int) -> bool:
        """Whether to stop here, asked when `step` is done; every process gets the same answer for the same step."""
        with self._changed:
            if self.reason is None:
                self._committed = step + 1
                return False
            if self.processes == 1:
                return True
            while self._target is None:
                self._changed.wait(1.0)
            return step >= self._target

    def published(self) -> int | None:
        """The step that this process is in, or was in last, once a request is known: it does not pass it alone."""
        with self._changed:
            return self._committed or None if self.reason is not None else None

    def agree(self, committed: list[int | None]) -> None:
        """Reads what every process published; fixes the step when none is missing."""
        known = [step for step in committed if step is not None]
        if len(known) == self.processes and self._target is None:
            with self._changed:
                self._target = max(known)
                self._changed.notify_all()


current = Stop()
"""Of this process; replaced by the session of a run."""
