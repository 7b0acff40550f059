"""Environments in processes of their own, so that nothing they do can hold up or end the run.

A pool is asked and looked at, and never waited for: `reset` and `step` return at once, `poll` gives what has come in.
"""

import selectors
import time
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from stepjax.tasks.base import Problem
from stepjax.tasks.environment_process import Answer, EnvironmentProcess, Played


class EnvironmentPool:
    """Environments of rows, which are numbers."""

    def __init__(self, path: str, arguments: Mapping[str, Any], *, seconds: float, processes: int = 1, calls: int = 64):
        """Starts nothing yet: the first question does, or `start`.

        Args:
          path: "package.module:Class".
          arguments: its keyword arguments, JSON-able.
          seconds: the longest that a reply may take.
          processes, calls: how many there are, and questions that each works on at a time.
        """
        self._processes = [EnvironmentProcess(path, arguments, seconds, calls) for _ in range(processes)]
        self._end = weakref.finalize(self, _close, self._processes)

    def start(self) -> str:
        """Starts a process; the class's `call`. UserError where it cannot be imported or made."""
        self._processes[0].start()
        return self._processes[0].call

    def reset(self, row: int, problem: Problem) -> None:
        """Asks for what stands before the first turn; the row was forgotten, or is new."""
        process = self._of(row)
        process.rows[row] = Played(problem)
        process.waiting.append(row)

    def step(self, row: int, text: str) -> None:
        """Asks for the reply to a turn."""
        process = self._of(row)
        process.rows[row].text = text
        process.waiting.append(row)

    def forget(self, row: int) -> None:
        """A row that is over."""
        self._of(row).forget(row)

    def poll(self, seconds: float = 0.0) -> list[Answer]:
        """What has come in, at the latest after `seconds`."""
        end = time.monotonic() + seconds
        while True:
            found = [answer for process in self._processes for answer in process.look()]
            left = end - time.monotonic()
            if found or left <= 0 or not self.busy:
                return found
            with selectors.DefaultSelector() as selector:
                for process in self._processes:
                    if process.fileno is not None:
                        selector.register(process.fileno, selectors.EVENT_READ)
                selector.select(min(left, 0.05))

    @property
    def busy(self) -> bool:
        """Whether any question has no answer yet."""
        return any(process.busy for process in self._processes)

    def close(self) -> None:
        """Ends the processes and forgets all rows."""
        _close(self._processes)

    def _of(self, row: int) -> EnvironmentProcess:
        return self._processes[row % len(self._processes)]


def _close(processes: Sequence[EnvironmentProcess]) -> None:
    for process in processes:
        process.close()
        for rows in (process.rows, process.waiting, process.alone):
            rows.clear()
