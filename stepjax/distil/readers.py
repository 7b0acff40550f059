"""What conversations are made of: rows of JSON Lines files, each read by the first reader that knows its form.

A reader turns one row into records of responses: one for a sampled response, one for each candidate of a search. Of a
record, `problem`, `steps`, `correct`, `answer` and `id` are used and, of its `extra`, what `stepjax sample` writes:

    text            the response, where it is more than its steps with the task's separator between them
    unfinished      True where it was cut off
    prm             P(right) of each step, where the steps were scored
    step_ratings    −1, 0 or 1 for each step, where the task rates them exactly

A new form is a class with the two methods of `Reader`, and its instance in `READERS`.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from stepjax.data.jsonl import read_jsonl
from stepjax.data.schema import LabelledSolution, SchemaError
from stepjax.distil.candidates import candidates
from stepjax.errors import UserError
from stepjax.runs.setup import Run
from stepjax.search.records import FOUND, TREE


class Reader(Protocol):
    """Reads rows of one form."""

    def fits(self, row: Mapping[str, Any]) -> bool:
        """Whether the row is of this form."""
        ...

    def read(self, row: Mapping[str, Any], place: str, run: Run) -> Iterable[LabelledSolution]:
        """The responses of a row; `place` (file:line) begins the UserError where it cannot be read.

        `run` has the tokenizer, the steps and the task of the work directory.
        """
        ...


class Responses:
    """Records, as `stepjax sample`, `stepjax eval` and `stepjax label` write them."""

    def fits(self, row: Mapping[str, Any]) -> bool:
        return "problem" in row and "steps" in row

    def read(self, row: Mapping[str, Any], place: str, run: Run) -> Iterable[LabelledSolution]:
        return [_record(row, place)]


class Trees:
    """Records of `stepjax search`: every candidate that was graded, with the values of its steps."""

    def fits(self, row: Mapping[str, Any]) -> bool:
        extra = row.get("extra")
        return isinstance(extra, Mapping) and {TREE, FOUND} <= extra.keys()

    def read(self, row: Mapping[str, Any], place: str, run: Run) -> Iterable[LabelledSolution]:
        try:
            return candidates(run, _record(row, place))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            told = " ".join(str(error).split())[:200]
            raise UserError(f"{place}: not a tree that `stepjax search` wrote ({told})") from None


READERS: tuple[Reader, ...] = (Trees(), Responses())


def _record(row: Mapping[str, Any], place: str) -> LabelledSolution:
    try:
        return LabelledSolution.from_json(row)
    except SchemaError as error:
        raise UserError(f"{place}: {error}") from None


def read_responses(paths: str, run: Run) -> Iterator[LabelledSolution]:
    """The responses of one or several files, separated by commas, in order.

    Raises:
      UserError: a file that is not there, or a row that no reader knows or can read.
    """
    for path in filter(None, (part.strip() for part in paths.split(","))):
        for number, row in read_jsonl(Path(path).expanduser()):
            place = f"{path}:{number}"
            reader = next((reader for reader in READERS if reader.fits(row)), None)
            if reader is None:
                raise UserError(
                    f"{place}: neither a response nor a tree; name a file of `stepjax sample`, `eval` or `search`"
                )
            yield from reader.read(row, place, run)
