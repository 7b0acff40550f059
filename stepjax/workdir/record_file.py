"""A file that records are appended to: a later call continues it, and loses, repeats or mixes none."""

import dataclasses
import fcntl
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from stepjax.config import PromptOptions
from stepjax.data.jsonl import parse_line
from stepjax.data.schema import LabelledSolution, SchemaError
from stepjax.errors import UserError
from stepjax.workdir.json_file import plain, read_json, write_json
from stepjax.workdir.json_lines import JsonLines

USUAL = {"prompt": plain(dataclasses.asdict(PromptOptions()))}
"""Sections among the options, with their defaults."""
WEIGHTS = "weights"
"""The option that holds fingerprints of the models' checkpoints."""


class RecordFile:
    """Records, one per line, each with an `id`; the options that they depend on are in `NAME.options.json`.

    Opening an existing file cuts off a last line that a killed process left unfinished, and reads which records are
    there. `append` hands a whole line to the system, so that a killed process loses only its unfinished work.

    Attributes:
      done: the records' names.
    """

    command = "label"
    """The command that makes such files."""

    @property
    def _option(self) -> str:
        """What names them."""
        return f"config.{self.command}.out"

    def __init__(self, path: Path, made_with: Mapping[str, Any], *, primary: bool = True):
        """`made_with`: the options that the records depend on. Of several processes only the `primary` one writes.

        Raises:
          UserError: the file is in use, was made with other options or by something else, or cannot be read.
        """
        self.path = path
        self.done: set[str] = set()
        self._primary, self._lock = primary, -1
        self._lines = JsonLines(path)
        try:
            if primary:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._lock = _locked(path, self._option)
            self._check_options(json.loads(json.dumps(plain(dict(made_with)))))
            self._read()
        except OSError as error:
            self.close()
            raise UserError(
                f"{error.filename or path} cannot be used: {error.strerror}; name another {self._option}"
            ) from None
        except UserError:
            self.close()
            raise

    def append(self, records: Iterable[LabelledSolution]) -> None:
        """Adds the records that are not there yet."""
        new = [record for record in records if record.id not in self.done]
        for record in new:
            assert record.id
            self._count(record)
        if self._primary and new:
            self._lines.append([record.to_json() for record in new])

    def close(self) -> None:
        self._lines.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _count(self, record: LabelledSolution) -> None:
        """Takes note of a record that is there."""
        self.done.add(record.id)

    def _check_options(self, wanted: dict[str, Any]) -> None:
        beside = self.path.with_suffix(".options.json")
        there = self.path.exists() and self.path.stat().st_size > 0
        if not there:
            if self._primary:
                write_json(beside, wanted)
            return
        found = read_json(beside)
        if not found:
            raise UserError(
                f"{self.path}: `stepjax {self.command}` did not make this file; name another {self._option}"
            )
        for name in changed(*(self._compared(options, found, wanted) for options in (found, wanted)))[:1]:
            raise UserError(
                f"{self.path} was made with {name}={found.get(name)!r}, not {wanted.get(name)!r}; name another "
                f"{self._option}, or give the same options"
            )

    def _compared(self, options: Mapping[str, Any], found: Any, wanted: Any) -> dict[str, Any]:
        """What of `options`, the found or the wanted ones, must be alike.

        No work directory that the file lies in: both move together. No weights where an earlier version named none.
        """
        kept: dict[str, Any] = {}
        for name, value in options.items():
            there, here = (of.get(name) if isinstance(of, dict) else None for of in (found, wanted))
            if (
                name == "workdir"
                and isinstance(here, str)
                and Path(os.path.abspath(self.path)).is_relative_to(os.path.abspath(here))
            ):
                continue
            if name == WEIGHTS and there is None:
                continue
            kept[name] = self._compared(value, there, here) if isinstance(value, dict) else value
        return kept

    def _read(self) -> None:
        if not self.path.exists():
            return
        whole = 0
        with open(self.path, "rb") as file:
            for number, raw in enumerate(file, 1):
                if not raw.endswith(b"\n"):
                    break
                where = f"{self.path}:{number}"
                try:
                    record = LabelledSolution.from_json(parse_line(raw, where))
                except SchemaError as error:
                    raise UserError(f"{where}: {error}") from None
                if not record.id or record.id in self.done:
                    raise UserError(
                        f"{where}: {'its id occurs twice' if record.id else 'it has no id'}; repair the file"
                    )
                self._count(record)
                whole += len(raw)
        if self._primary and whole < self.path.stat().st_size:
            os.truncate(self.path, whole)


def changed(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """The options that differ. In the sections of `USUAL`, what a file of an earlier version does not name has its
    default."""

    def whole(name: str, value: Any) -> Any:
        return {**USUAL[name], **value} if name in USUAL and isinstance(value, dict) else value

    return [name for name in {**found, **wanted} if whole(name, found.get(name)) != whole(name, wanted.get(name))]


def _locked(path: Path, option: str) -> int:
    """A lock on the file for the life of this process; UserError where another one has it."""
    file = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise UserError(f"{path} is in use by another process; wait for it, or name another {option}") from None
    except OSError:
        pass  # a network file system without locks: run without the guard
    return file
