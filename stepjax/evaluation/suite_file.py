"""The responses to a benchmark in a file that a later call continues, or begins again where it asks for others."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from stepjax.data.schema import LabelledSolution
from stepjax.errors import UserError
from stepjax.workdir.checkpoint_format import reason
from stepjax.workdir.json_file import read_json
from stepjax.workdir.record_file import RecordFile, changed


class Answered(NamedTuple):
    """What the figures need of a response.

    Attributes:
      tokens: how many it has.
    """

    text: str
    finished: bool
    correct: bool
    tokens: int


class SuiteFile(RecordFile):
    """Records of responses, `PROBLEM/SAMPLE` each.

    Attributes:
      answered: the responses by their names.
    """

    command = "eval"
    _option = "--workdir"

    def __init__(self, path: Path, made_with: Mapping[str, Any], *, primary: bool = True):
        """A file that was made with other options, or by another policy, is begun again."""
        self.answered: dict[str, Answered] = {}
        super().__init__(path, made_with, primary=primary)

    def rows(self, names: Iterable[str]) -> list[Answered]:
        """The responses of these names."""
        return [self.answered[name] for name in names]

    def _count(self, record: LabelledSolution) -> None:
        super()._count(record)
        extra = record.extra
        self.answered[record.id] = Answered(
            str(extra.get("text", "")), not extra.get("unfinished"), bool(record.correct), len(extra.get("tokens", ()))
        )

    def _check_options(self, wanted: dict[str, Any]) -> None:
        beside = self.path.with_suffix(".options.json")
        if self._primary and self.path.exists() and changed(read_json(beside), wanted):
            try:
                self.path.unlink()
            except OSError as error:
                raise UserError(f"{self.path} cannot be replaced: {reason(error)}") from None
        super()._check_options(wanted)
