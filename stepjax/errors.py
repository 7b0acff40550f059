"""Errors that a user can fix: shown as one line, without a traceback, with exit status 2."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Invalid input (an option, a file, a checkpoint): the message says what, where and what to do, in one line."""


LONGEST_LINE = 1000
"""Characters of an error's line; of a longer one the middle is left out."""


class NonFiniteError(UserError):
    """A loss or a gradient became NaN or infinite: the run stops before anything non-finite is saved."""


class Stopped(Exception):
    """The run received a signal to stop, and its progress is saved; `interrupted`: by Ctrl-C."""

    def __init__(self, message: str, *, interrupted: bool = False):
        super().__init__(message)
        self.interrupted = interrupted


def as_line(text: str) -> str:
    """A message as a terminal can show it: in one line, not endless, without control characters that a file or an
    argument brought along (they would colour, clear or reverse the screen)."""
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text.split()))
    half = LONGEST_LINE // 2
    return line if len(line) <= LONGEST_LINE else f"{line[:half]} … {line[-half:]}"


def nearest(name: str, known: Iterable[str]) -> str:
    """' (did you mean X?)' with the closest match, or the list of all names where none is close."""
    known = list(known)
    match = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" (did you mean {match[0]!r}?)" if match else f" (there are: {', '.join(sorted(known))})"
