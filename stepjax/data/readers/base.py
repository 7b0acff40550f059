"""Base of the readers of public formats: results, counts, errors."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from stepjax.answers.grading import number_of, same_answer
from stepjax.config import DataOptions
from stepjax.data.schema import LabelledSolution


class RowError(ValueError):
    """A row that is not of its format; the message names the field and its fault."""


@dataclass
class Tally:
    """Counts of one reading.

    Attributes:
      rows: rows of the files.
      dropped: counts of everything that did not get into a record, by reason.
      noted: counts of what did, but not as a reader of the source may expect.
      file: the one that is being read.
    """

    rows: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    noted: Counter[str] = field(default_factory=Counter)
    file: Path | None = None


class Found(NamedTuple):
    """A record with all its labels, of which those of the first `shared` steps are in an earlier record too."""

    record: LabelledSolution
    shared: int = 0


@dataclass
class Context:
    """Input of a reader of rows: the options, the counts, and a memory for one reading."""

    options: DataOptions
    tally: Tally
    place: str = ""
    seen: set[Any] = field(default_factory=set)


Reader = Callable[[Mapping[str, Any], Context], Iterator[Found]]
"""Turns a row into records. RowError where the row is malformed, before the first record of it."""


def text(row: Mapping[str, Any], name: str) -> str:
    """A field that must be text."""
    return _typed(row, name, str, "text")


def entries(row: Mapping[str, Any], name: str) -> list[Any]:
    """A field that must be a list."""
    return _typed(row, name, list, "a list")


def texts(row: Mapping[str, Any], name: str) -> list[str]:
    """A field that must be a list of texts."""
    found = entries(row, name)
    for i, value in enumerate(found):
        if not isinstance(value, str):
            raise RowError(f"field {name!r}: entry {i} must be text, not {type(value).__name__}")
    return found


def whole(value: Any, name: str) -> int:
    """A value that must be a whole number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise RowError(f"field {name!r} must be a whole number, not {value!r:.40}")
    return value


def _typed(row: Mapping[str, Any], name: str, kind: type, word: str) -> Any:
    if name not in row:
        raise RowError(f"no field {name!r}; the row has {', '.join(map(repr, row)) or 'no fields'}")
    if not isinstance(row[name], kind):
        raise RowError(f"field {name!r} must be {word}, not {type(row[name]).__name__}")
    return row[name]


def is_answer(given: str, answer: str) -> bool | None:
    """Whether two final answers are the same; None where they are not known to be, but are not both numbers either."""
    if same_answer(given, answer, boxed=True):
        return True
    return None if None in (number_of(given), number_of(answer)) else False
