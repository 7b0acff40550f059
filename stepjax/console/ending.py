"""How a command ends that did not do its work: an exit status and one line."""

import errno
import re
import sys
import traceback

from stepjax.console.pipes import to_nowhere
from stepjax.distributed.signals import INTERRUPTED
from stepjax.errors import Stopped, UserError, as_line

STOPPED = 75
"""Exit status of a run that was stopped by a signal or lost another process: the same command continues it."""

DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
"""Errors of a disk that is full, read-only or broken, none of which is a bug of the program."""


NO_PATH = {errno.ENAMETOOLONG, errno.ELOOP}
"""Errors of a text that cannot be a file's path."""


def failed(error: BaseException) -> int:
    """Says in one line what ended the command and returns its exit status; a bug of the program is raised again."""
    session = sys.modules.get("stepjax.distributed.session")  # a command that never imported it is the only process
    if session is not None:
        session.explain(error)
    told = _told(error)
    if told is None:
        if session is not None and session.others():
            traceback.print_exception(error)
            session.leave(1, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
        raise error
    status, line = told
    try:
        print(f"stepjax: {line}", file=sys.stderr, flush=True)
    except OSError:  # nobody reads it, or its disk is full: the status says it, too
        to_nowhere(sys.stderr.fileno())
    if session is not None:
        session.leave(status, line)
    return status


def _told(error: BaseException) -> tuple[int, str] | None:
    """Exit status and line of an error that is not a bug of the program."""
    if isinstance(error, UserError):
        return 2, as_line(str(error))
    if isinstance(error, Stopped):
        return INTERRUPTED if error.interrupted else STOPPED, f"{error}; the same command continues"
    if isinstance(error, OSError) and error.errno in DISK:
        return 2, as_line(f"{error.filename or 'a file or the output'} cannot be written: {error.strerror}")
    if isinstance(error, OSError) and error.errno in NO_PATH:
        return 2, as_line(f"{str(error.filename)[:200]}: {error.strerror}; name another file")
    if lacking := _out_of_memory(error):
        programs = sys.modules.get("stepjax.programs")
        known = "take fewer or shorter rows,"
        if programs is not None and programs.oversized:
            known = f"maybe of this: {programs.oversized[-1]}, or take"
        return 2, as_line(
            f"out of memory ({lacking}): {known} a smaller model or more devices; `stepjax plan` says what a run needs"
        )
    if isinstance(error, KeyboardInterrupt):
        return (
            INTERRUPTED,
            "stopped by Ctrl-C; what was saved is whole, and the same command goes on from there",
        )
    return None


def _out_of_memory(error: BaseException) -> str | None:
    """The sentence that says which allocation failed; None where none did."""
    if isinstance(error, MemoryError):
        return str(error) or "of the host"
    if type(error).__name__ != "JaxRuntimeError":
        return None
    text = str(error)
    found = re.search("RESOURCE_EXHAUSTED|[Oo]ut of memory", text)
    return None if found is None else re.split("[.\n]", text[text.rfind(":", 0, found.start()) + 1 :])[0].strip()
