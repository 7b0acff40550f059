"""A call of code that is not ours, in bounded time."""

import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

R = TypeVar("R")

AGAIN = 1.0
"""Seconds between two attempts to end a call that is late, at most: code may catch everything once."""

_SIGNAL = signal.SIGVTALRM  # of the clock of computing time; graders often use SIGALRM themselves


class TimeIsUp(BaseException):
    """A call took too long; `places`: where it was, as (file, line), the outermost first.

    No `Exception`, as code that goes on after any exception must not go on after this one.
    """

    def __init__(self, places: list[tuple[str, int]]):
        super().__init__()
        self.places = places


def limited(run: Callable[[], R], seconds: float) -> R:
    """What `run` returns. In the main thread a signal interrupts it, also where it sleeps or waits for a socket; in
    another one it goes on by itself, in a thread that does not keep the program from ending.

    Raises:
      TimeIsUp: it took longer than `seconds`.
    """
    if threading.current_thread() is threading.main_thread():
        return _interrupted(run, seconds)
    return _left_behind(run, seconds)


def _interrupted(run: Callable[[], R], seconds: float) -> R:
    done, main, end = threading.Event(), threading.get_ident(), time.monotonic() + seconds

    def late(number: int, frame: FrameType | None) -> None:
        if not done.is_set() and time.monotonic() >= end:
            raise TimeIsUp(_places(frame))

    def watch() -> None:
        while not done.wait(max(end - time.monotonic(), AGAIN / 10)):
            signal.pthread_kill(main, _SIGNAL)

    before = signal.signal(_SIGNAL, late)
    watcher = threading.Thread(target=watch, name="time limit", daemon=True)
    try:
        try:
            watcher.start()
            # The watcher cannot run while code written in C, such as a regular expression, computes: a clock can.
            signal.setitimer(signal.ITIMER_VIRTUAL, min(seconds, AGAIN), AGAIN)
            return run()
        finally:
            done.set()
    finally:
        done.set()  # the signal may have come just before: then it was not set
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
        if watcher.ident is not None:
            watcher.join()
        signal.signal(_SIGNAL, before if before is not None else signal.SIG_DFL)


def _left_behind(run: Callable[[], R], seconds: float) -> R:
    results: list[R] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(run())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, name="time limit", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeIsUp(_places(sys._current_frames().get(thread.ident or 0)))
    return results[0]


def _places(frame: Any) -> list[tuple[str, int]]:
    return [(frame.filename, frame.lineno or 0) for frame in traceback.extract_stack(frame)] if frame else []
