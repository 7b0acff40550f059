"""Calling a user's function: what its signature asks for, coroutines, a time limit, and one line where it fails."""

import asyncio
import inspect
import itertools
import sysconfig
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from stepjax.errors import UserError, nearest
from stepjax.rewards import time_limit
from stepjax.rewards.time_limit import TimeIsUp, limited

POSITIONAL = ("prompts", "responses", "steps")
"""What a function takes whose parameters have names of its own, in this order."""

QUICK = 10.0
"""Seconds: a function that fails within them is called again on parts of the responses, to find the one."""

Given = Mapping[str, Sequence[Any]]
"""Everything that a function may ask for, by name: one entry a response."""

_OURS = (__file__, time_limit.__file__)
_LIBRARIES = tuple(
    {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    | {str(Path(__file__).parents[1])}
)


def arguments(function: Callable[..., Any], given: Given, where: str) -> tuple[list[Any], dict[str, Any]]:
    """The positional and the named arguments of a call.

    A function is called by name if all parameters without a default are among `given` (with `**more` it takes all of
    them); else with `POSITIONAL`, if it takes three.

    Raises:
      UserError: it asks for something else.
    """
    first = [given[name] for name in POSITIONAL]
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # one that is not written in Python
        return first, {}
    parameters = signature.parameters.values()
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    unknown = [p.name for p in named if p.default is p.empty and p.name not in given]
    asked = [p.name for p in named if p.name in given]
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        asked = list(given)
    if asked and not unknown and not any(p.kind is p.POSITIONAL_ONLY for p in parameters):
        return [], {name: given[name] for name in asked}
    try:
        signature.bind(*first)
    except TypeError:
        what = f"asks for {unknown[0]!r}{nearest(unknown[0], given)}" if unknown else "takes none of them"
        raise UserError(
            f"{where} {what}; a reward function takes {', '.join(POSITIONAL)}, or by name any of {', '.join(given)}"
        ) from None
    return first, {}


def call(function: Callable[..., Any], given: Given, where: str, *, seconds: float = 0.0) -> Any:
    """What the function returns for the responses; a coroutine is awaited, an iterator read.

    Args:
      given: what it may ask for (`arguments`).
      where: begins the one line of every error.
      seconds: the longest that it may take; 0: as long as it likes.

    Raises:
      UserError: it asks for something unknown, raises (the line names file and line, and the response where one alone
        makes it fail in the same way), or takes too long.
    """
    began = time.monotonic()
    try:
        return _bounded(function, given, where, seconds)
    except (Exception, SystemExit) as error:
        if isinstance(error, UserError):
            raise
        number = None if time.monotonic() - began > QUICK else _failing(function, given, where, error)
        response = "" if number is None else f", for response {number}"
        text = " ".join(str(error).split())[:300]
        said = f"{type(error).__name__}: {text}" if text else type(error).__name__
        raise UserError(f"{where} raised {said}{at_line(error)}{response}") from error


def at_line(error: BaseException) -> str:
    """ " (file:line)" of the user's code in which an error was raised; "" where there is none."""
    return _shown([(frame.filename, frame.lineno or 0) for frame in traceback.extract_tb(error.__traceback__)])


def _bounded(function: Callable[..., Any], given: Given, where: str, seconds: float) -> Any:
    args, named = arguments(function, given, where)
    count = len(given[POSITIONAL[0]])

    def run() -> Any:
        found = function(*args, **named)
        if inspect.isawaitable(found):
            found = _result(found)
        # One more than there should be shows that there are too many, also where there is no end of them.
        return list(itertools.islice(found, count + 1)) if isinstance(found, Iterator) else found

    if not seconds:
        return run()
    try:
        return limited(run, seconds)
    except TimeIsUp as late:
        raise UserError(
            f"{where} took longer than {seconds:g} s for {count} responses{_shown(late.places)}; "
            "mend it, or raise the stream's timeout"
        ) from None


def _result(found: Awaitable[Any]) -> Any:
    """What a coroutine returns, also where a notebook's event loop runs already in this thread."""

    async def awaited() -> Any:
        return await found

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(awaited())
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, awaited()).result()


def _failing(function: Callable[..., Any], given: Given, where: str, error: BaseException) -> int | None:
    """The number of a response that alone makes the function fail in the same way, by halves; None if none is found."""

    def fails(numbers: Sequence[int]) -> BaseException | None:
        part = {name: [column[i] for i in numbers] for name, column in given.items()}
        try:
            _bounded(function, part, where, QUICK)
        except (Exception, SystemExit) as found:
            return found
        return None

    numbers: Sequence[int] = range(len(given[POSITIONAL[0]]))
    while len(numbers) > 1:
        half = len(numbers) // 2
        numbers = numbers[:half] if fails(numbers[:half]) is not None else numbers[half:]
    alone = fails(numbers) if numbers else None
    if alone is None or (type(alone), str(alone), at_line(alone)) != (type(error), str(error), at_line(error)):
        return None
    return numbers[0]


def _shown(places: Sequence[tuple[str, int]]) -> str:
    """ " (file:line)" of the innermost place in the user's code; of the innermost at all where all are in libraries."""
    files = [(name, line) for name, line in places if not name.startswith("<") and name not in _OURS]
    own = [(name, line) for name, line in files if not name.startswith(_LIBRARIES)]
    name, line = (own or files or [("", 0)])[-1]
    return f" ({name}:{line})" if name else ""
