"""Files of one JSON object per line that only grow, except where a run is resumed."""

import json
import os
from collections.abc import Iterable, Mapping
from io import FileIO
from pathlib import Path
from typing import Any

from stepjax.errors import UserError
from stepjax.workdir.json_file import plain


class JsonLines:
    """A file of one JSON object per line, each with "step" and "stage", that only grows except in `resume`."""

    def __init__(self, path: Path):
        self.path = path
        self._file: FileIO | None = None

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Writes the rows in one piece: a killed process leaves at most its last line cut off."""
        text = "".join(json.dumps(plain(row), ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
        try:
            if self._file is None:
                # Unbuffered: every line is with the system when this returns, and nothing is left to fail in `close`.
                self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115 - stays open for the run
            # A lone surrogate (half a character that a model sampled) is not UTF-8: it becomes "?".
            rest = memoryview(text.encode("utf-8", errors="replace"))
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise self._error(error) from error

    def resume(self, stage: str, step: int) -> None:
        """Drops the lines of `stage` after `step` and lines that are not whole; others stay, byte for byte."""
        self.close()
        try:
            lines = self.path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._error(error) from error
        kept = [line for line in lines if _stays(line, stage, step)]
        if len(kept) == len(lines):
            return
        partial = self.path.with_name(self.path.name + ".partial")
        try:
            with open(partial, "wb") as file:
                file.writelines(kept)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, self.path)
        except OSError as error:
            raise self._error(error) from error

    def sync(self) -> None:
        """Returns when every line is on the disk."""
        if self._file is not None:
            try:
                os.fsync(self._file.fileno())
            except OSError as error:
                raise self._error(error) from error

    def close(self) -> None:
        """Closes the file; a later `append` opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _error(self, error: OSError) -> UserError:
        return UserError(
            f"{self.path} cannot be written: {error.strerror}; repair that, then run the same command again"
        )


def _stays(line: bytes, stage: str, step: int) -> bool:
    record = record_of_line(line)
    if record is None or record.get("stage") != stage:
        return record is not None
    return isinstance(record.get("step"), int) and record["step"] <= step


def record_of_line(line: bytes) -> dict[str, Any] | None:
    """The object of a line; None where the line is not whole."""
    try:
        record = json.loads(line.decode("utf-8")) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
