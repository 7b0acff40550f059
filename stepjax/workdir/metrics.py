"""Logs of a run: metrics.jsonl, samples.jsonl and TensorBoard's event files.

A run that is killed and resumed leaves the same lines as one that never stopped, timings apart: `resume` drops what was
logged after the checkpoint, and the steps that are repeated log it again. Timings lie under the key "seconds" and under
keys that start with "rate/".
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from stepjax.errors import UserError
from stepjax.parallel import is_main_process
from stepjax.workdir.json_file import plain
from stepjax.workdir.tensorboard import EventFile


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
    record = _record(line)
    if record is None or record.get("stage") != stage:
        return record is not None
    return isinstance(record.get("step"), int) and record["step"] <= step


def _record(line: bytes) -> dict[str, Any] | None:
    """The object of a line; None where the line is not whole."""
    try:
        record = json.loads(line.decode("utf-8")) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


class Metrics:
    """The metrics and samples of one stage of a work directory; in a multi-host run only process 0 writes."""

    def __init__(self, workdir: Path | str, stage: str, *, tensorboard: bool = True):
        self._workdir, self._stage, self._tensorboard = Path(workdir), stage, tensorboard
        self._active = is_main_process()
        self._lines = JsonLines(self._workdir / "metrics.jsonl")
        self._samples = JsonLines(self._workdir / "samples.jsonl")
        self._events: EventFile | None = None
        self._purge: int | None = None

    def resume(self, step: int) -> None:
        """Removes this stage's lines after `step`; −1 removes all of them. Call it before the first `write`."""
        if self._active:
            self._lines.resume(self._stage, step)
            self._samples.resume(self._stage, step)
            self._close_events()
            self._purge = step + 1

    def logged(self) -> Iterator[dict[str, Any]]:
        """The stage's lines in metrics.jsonl, in order; none on the other processes of a multi-host run.

        Right after `resume` these are the lines up to its step.
        """
        if not self._active or not self._lines.path.exists():
            return
        with open(self._lines.path, "rb") as lines:
            for line in lines:
                record = _record(line)
                if record is not None and record.get("stage") == self._stage:
                    yield record

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Appends a line: step, stage, then `values` in their order; nested numbers are group/name in TensorBoard."""
        if not self._active:
            return
        head = {"step": step, "stage": self._stage}
        self._lines.append([head | {k: v for k, v in values.items() if k not in head}])
        if self._tensorboard:
            try:
                if self._events is None:
                    self._events = EventFile(self._folder, self._purge)
                self._events.write(step, _numbers(plain(values)))
            except OSError as error:
                raise self._error(error) from error

    def append_samples(self, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Appends rows to samples.jsonl: step, stage, then what the row holds."""
        if self._active:
            head = {"step": step, "stage": self._stage}
            self._samples.append(head | {k: v for k, v in row.items() if k not in head} for row in rows)

    def sync(self) -> None:
        """Returns when all of it is on the disk; called before a checkpoint, so that no line before one is lost."""
        if self._active:
            self._lines.sync()
            self._samples.sync()
            if self._events is not None:
                try:
                    self._events.flush()
                except OSError as error:
                    raise self._error(error) from error

    def close(self) -> None:
        """Closes the files."""
        self._lines.close()
        self._samples.close()
        self._close_events()

    def _close_events(self) -> None:
        events, self._events = self._events, None
        if events is not None:
            try:
                events.close()
            except OSError as error:
                raise self._error(error) from error

    @property
    def _folder(self) -> Path:
        return self._workdir / "tensorboard" / self._stage

    def _error(self, error: OSError) -> UserError:
        return UserError(
            f"{self._folder} cannot be written: {error.strerror}; repair that, then run the same command again"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except UserError:
            if error is None:  # the error that ends the run is the one to report
                raise


def _numbers(tree: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, float]]:
    """The finite numbers of a nested dict: `{"seconds": {"score": 0.5}}` gives `("seconds/score", 0.5)`."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{key}/")
        elif isinstance(value, (int, float)):
            yield f"{prefix}{key}", float(value)
