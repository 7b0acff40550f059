"""Properties that must hold whatever comes in: a few examples in every test run, minutes or hours of them on demand.

`STEPJAX_FUZZ_SECONDS` is the time of all kinds together, divided by the kinds' shares (not set: no minutes of any);
`STEPJAX_FUZZ_SEED` the first seed, a number or `random` (0 by default, so that a failure of the tests repeats).
"""

import os
import secrets
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

BATCH = 250
"""Examples of one seed."""

_QUIET = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}


class TookTooLongError(AssertionError):
    """An example that passed its bound in time."""


@contextmanager
def bounded(cpu: float, wall: float) -> Iterator[None]:
    """TookTooLongError where the block takes more seconds of processor time, or of any time, than these.

    Processor time is what counts on a busy machine; the other bound ends what waits for ever.
    """
    late: list[str] = []

    def stop(number: int, frame: Any) -> None:
        late.append(f"{cpu:g} s of processor time" if number == signal.SIGPROF else f"{wall:g} s")
        raise TookTooLongError(f"took more than {late[0]}")

    before = [(n, signal.signal(n, stop)) for n in (signal.SIGPROF, signal.SIGALRM)]
    signal.setitimer(signal.ITIMER_PROF, cpu)
    signal.setitimer(signal.ITIMER_REAL, wall)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before:
            signal.signal(number, handler)
    if late:  # the code under test took the error for one of its own
        raise TookTooLongError(f"took more than {late[0]}")


class Found(NamedTuple):
    """A failure: its error, and the smallest example that gave it."""

    error: BaseException
    example: str


@dataclass(frozen=True)
class Property:
    """A function that raises where its arguments break the property.

    Attributes:
      few: examples in the fast tests.
      cpu, wall: bounds of one example in seconds.
    """

    check: Callable[..., None]
    strategies: dict[str, SearchStrategy]
    few: int
    cpu: float
    wall: float

    def one(self, arguments: dict[str, Any]) -> None:
        with bounded(self.cpu, self.wall):
            self.check(**arguments)

    def run_few(self) -> None:
        """The same few examples every time; a failing one is made small."""

        @settings(max_examples=self.few, derandomize=True, **_QUIET)
        @given(**self.strategies)
        def run(**arguments: Any) -> None:
            self.one(arguments)

        run()

    def run_for(self, seconds: float, first: int) -> None:
        """Batches of examples of the seeds `first`, `first + 1` … until the time is over.

        A failure does not end them: each place in the code that fails is kept with its smallest example.
        """
        end, found, count, number = time.monotonic() + seconds, dict[Any, Found](), 0, first
        name = self.check.__name__

        def run(**arguments: Any) -> None:
            nonlocal count
            if time.monotonic() > end:
                return
            count += 1
            try:
                self.one(arguments)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # a panic of a Rust library is no Exception
                example, place = ascii(arguments), _place(error)
                if place not in found:
                    print(f"{name}, seed {number}: {error!r:.300} at {place}: {example[:1000]}", flush=True)
                if place not in found or len(example) < len(found[place].example):
                    found[place] = Found(error, example)

        while time.monotonic() < end:
            batch = given(**self.strategies)(run)
            settings(max_examples=BATCH, phases=[Phase.generate], **_QUIET)(seed(number)(batch))()
            number += 1
        print(f"{name}: {count} examples, seeds {first} to {number - 1}, {len(found)} failures", flush=True)
        if found:
            # In words alone: after an error deep in a recursion pytest cannot parse the sources that it would show.
            told = [
                f"{''.join(traceback.format_exception(each.error)[-12:])}example: {each.example[:4000]}"
                for each in found.values()
            ]
            pytest.fail("\n\n".join([f"{name}: {len(found)} failures", *told]), pytrace=False)


def _place(error: BaseException) -> str:
    """Where an error came from: its type and the last lines of the library and of the property."""
    frames = [f"{os.path.basename(f.filename)}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)]
    ours = [
        f for f, raw in zip(frames, traceback.extract_tb(error.__traceback__), strict=True) if "stepjax" in raw.filename
    ]
    return f"{type(error).__name__} {' '.join(dict.fromkeys([*ours[-1:], *frames[-1:]]))}"


class Fuzz:
    """The properties of one kind; `share` is the part of all time that is theirs."""

    def __init__(self, share: float):
        self._share = share
        self._properties: dict[str, Property] = {}

    def holds(self, *, few: int = 20, cpu: float = 10.0, wall: float = 60.0, **strategies: SearchStrategy) -> Callable:
        """Takes a function as a property of arguments from these strategies."""

        def take(check: Callable[..., None]) -> Callable[..., None]:
            self._properties[check.__name__] = Property(check, strategies, few, cpu, wall)
            return check

        return take

    @property
    def names(self) -> list[str]:
        return list(self._properties)

    def few(self, name: str) -> None:
        """A few examples of a property."""
        self._properties[name].run_few()

    def minutes(self, name: str) -> None:
        """A property's share of `STEPJAX_FUZZ_SECONDS`, which `test_five_minutes.py` sets; skipped without it."""
        if not (total := float(os.environ.get("STEPJAX_FUZZ_SECONDS", "0"))):
            pytest.skip("STEPJAX_FUZZ_SECONDS is not set")
        first = os.environ.get("STEPJAX_FUZZ_SEED", "0")
        start = secrets.randbelow(10**9) if first == "random" else int(first)
        self._properties[name].run_for(total * self._share / len(self._properties), start)
