"""Standard output and error whose reader may end early (`stepjax options | head -1`) or whose disk may be full.

A reader that goes away ends no command: a run of hours does not stop because of its output. What would be written then
goes nowhere, at the interpreter's exit too.
"""

import io
import os
import stat
import sys
from typing import Any, TextIO


class _Pipe(io.FileIO):
    """The end of a pipe that is written to."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except BrokenPipeError:
            to_nowhere(self.fileno())
            return memoryview(data).nbytes


def outlive_readers() -> None:
    """Puts streams in the place of standard output and error that outlive their readers, where these are pipes."""
    sys.stdout, sys.stderr = _outliving(sys.stdout), _outliving(sys.stderr)


def flush_output() -> OSError | None:
    """Writes what standard output still holds; the error where it cannot be written. It is not tried again at exit."""
    try:
        sys.stderr.flush()
    except OSError:
        to_nowhere(sys.stderr.fileno())
    try:
        sys.stdout.flush()
    except OSError as error:
        to_nowhere(sys.stdout.fileno())
        return error
    return None


def to_nowhere(descriptor: int) -> None:
    """What is written to an open file from now on is dropped."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _outliving(stream: TextIO | None) -> TextIO:
    if stream is None:  # closed by the caller (`>&-`)
        return open(os.devnull, "w", encoding="utf-8")
    if type(stream) is not io.TextIOWrapper or not _is_pipe(stream) or _is_ours(stream):
        return stream
    stream.flush()
    raw = _Pipe(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _is_ours(stream: io.TextIOWrapper) -> bool:
    return isinstance(getattr(stream.buffer, "raw", None), _Pipe)


def _is_pipe(stream: TextIO) -> bool:
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
