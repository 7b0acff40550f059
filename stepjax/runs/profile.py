"""`config.profile=START:STOP`: a trace of some rounds or updates of each stage, for TensorBoard, XProf or Perfetto."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

from stepjax.errors import UserError

MOST = 100
"""Steps of a trace: it grows by megabytes each."""


def profiled_steps(text: str) -> range:
    """The steps of START:STOP (START counts from 1, STOP is excluded); an empty range for an empty text.

    UserError where the text is malformed or names too many steps.
    """
    if not text:
        return range(0)
    match = re.fullmatch(r"(\d{1,9}):(\d{1,9})", text)
    if not match or not 1 <= int(match[1]) < int(match[2]):
        raise UserError(
            f"config.profile={text}: write START:STOP, steps from 1, such as 3:6 for the third to the fifth"
        )
    steps = range(int(match[1]), int(match[2]))
    if len(steps) > MOST:
        raise UserError(f"config.profile={text}: {len(steps)} steps make too large a trace; take {MOST} at most")
    return steps


class Profile:
    """Traces a stage's steps into `WORKDIR/profile/STAGE`; every process writes a file of its own."""

    def __init__(self, text: str, workdir: Path, stage: str):
        self._steps, self._stage = profiled_steps(text), stage
        self.folder = Path(workdir) / "profile" / stage
        self._running = False

    @contextmanager
    def step(self, step: int) -> Iterator[list[Any]]:
        """Around a step, which has a name in the trace. What is put into the list is waited for before a trace ends."""
        if step not in self._steps:
            yield []
            return
        if not self._running:
            self._start()
        results: list[Any] = []
        try:
            with jax.profiler.StepTraceAnnotation(self._stage, step_num=step):
                yield results
        except BaseException:
            self.stop()
            raise
        if step == self._steps[-1]:
            jax.block_until_ready(results)
            self.stop()

    def _start(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            jax.profiler.start_trace(str(self.folder))
        except OSError as error:
            raise UserError(f"{self.folder} cannot be written: {error.strerror}") from error
        except RuntimeError as error:
            raise UserError(f"config.profile: {error}") from error
        self._running = True

    def stop(self) -> None:
        """Ends a trace that is still running, if the stage has fewer steps than were asked for."""
        if self._running:
            self._running = False
            jax.profiler.stop_trace()

    def __enter__(self) -> "Profile":
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
