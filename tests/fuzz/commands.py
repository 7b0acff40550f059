"""The `stepjax` command in this process, and what a user may see of it."""

import contextlib
import io
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from stepjax.cli import main
from stepjax.errors import UserError, as_line

LONGEST_LINE = 2000


class Said(NamedTuple):
    """Exit status, lines on the error output, and standard output."""

    status: int
    errors: list[str]
    output: str


def command(*argv: str) -> Said:
    """Runs a command; AssertionError where it ends in any other way than a command of stepjax may."""
    # As a terminal's: what is not UTF-8 fails in one and shows as an escape in the other.
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")
    err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
    quiet = mock.patch.dict(os.environ, STEPJAX_QUIET="1")  # without progress bars
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), quiet:
        try:
            status = main(argv)
        except SystemExit as end:
            raise AssertionError(f"left by SystemExit({end.code!r})") from end
        out.flush()
        err.flush()
    said = [raw.decode("utf-8") for raw in (err.detach().getvalue(), out.detach().getvalue())]
    lines = said[0].splitlines()
    assert status in (0, 2), (status, lines)
    if status == 2 and argv:  # alone, the command shows how it is used
        assert_one_line(lines)
    return Said(status, lines, said[1])


def assert_one_line(lines: Sequence[str]) -> None:
    """One line of an error that a person can read."""
    assert len(lines) == 1 and lines[0].startswith("stepjax: "), lines
    assert_readable(lines[0])


def assert_readable(line: str) -> None:
    assert 10 < len(line) <= LONGEST_LINE, (len(line), line[:300])
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", line), ascii(line[:300])
    assert "Traceback" not in line and "<class" not in line and " object at 0x" not in line, line


def refused(error: UserError) -> str:
    """The line that the command would say."""
    return f"stepjax: {as_line(str(error))}"


@contextlib.contextmanager
def elsewhere() -> Iterator[Path]:
    """An empty folder as the current one."""
    with tempfile.TemporaryDirectory(prefix="fuzz") as name:
        before = os.getcwd()
        os.chdir(name)
        try:
            yield Path(name)
        finally:
            os.chdir(before)
