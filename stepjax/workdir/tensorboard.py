"""TensorBoard: scalars, samples as text and the options as hyperparameters, an event file for each start of a stage.

The events are tensorboardX's; neither TensorFlow nor PyTorch is loaded.

Events are written by the caller, not through tensorboardX's `SummaryWriter`: its thread dies at the first error (a full
disk), after which the writer waits forever for the dead thread.
"""

import importlib
import os
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from stepjax.workdir.sample_text import as_markdown
from stepjax.workdir.sink import Row, Watched, numbers

FLUSH_SECONDS = 10.0
"""Longest delay, in seconds, until a reader sees a scalar (at once after `flush`)."""


def _import_without_torch() -> None:
    """Imports tensorboardX, which loads PyTorch wherever it is installed: seconds and 200 MB for nothing used here."""
    if "torch" not in sys.modules and "tensorboardX" not in sys.modules:
        sys.modules["torch"] = None  # type: ignore[assignment]  # `import torch` raises ImportError
        try:
            importlib.import_module("tensorboardX")
        finally:
            del sys.modules["torch"]


class EventFile:
    """An event file in `folder`; TensorBoard ignores the steps of earlier files from `purge` on."""

    def __init__(self, folder: Path, purge: int | None = None):
        """Raises OSError where the file cannot be created; the other methods where it cannot be written."""
        _import_without_torch()
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2

        folder.mkdir(parents=True, exist_ok=True)
        # The name holds the second of the start; the suffix keeps a quick restart from overwriting the file before.
        suffix = f".{os.getpid()}.{sum(1 for _ in folder.iterdir())}"
        self._protos: Any = event_pb2
        self._events = EventsWriter(str(folder / "events"), suffix)
        self._flushed = time.monotonic()
        if purge is not None:
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._events.write_event(event_pb2.Event(wall_time=time.time(), step=purge, session_log=start))

    def write(self, step: int, scalars: Iterable[tuple[str, float]]) -> None:
        """One event with all scalars of a step."""
        from tensorboardX.proto.summary_pb2 import Summary

        self.add(step, Summary(value=[Summary.Value(tag=name, simple_value=number) for name, number in scalars]))

    def add(self, step: int, summary: Any) -> None:
        """One event with a summary of the protocol's."""
        self._events.write_event(self._protos.Event(wall_time=time.time(), step=step, summary=summary))
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Returns when every event is on the disk."""
        self._events.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Flushes and closes."""
        self._events.close()


class TensorBoardSink:
    """WORKDIR/tensorboard/STAGE. Its methods raise OSError where a file cannot be written."""

    def __init__(self, watched: Watched):
        self._folder = watched.workdir / "tensorboard" / watched.stage
        self._changed = watched.changed
        self._events: EventFile | None = None
        self._purge: int | None = None

    def resume(self, step: int) -> None:
        self.close()
        self._purge = step + 1

    def write(self, step: int, values: Row) -> None:
        self._file().write(step, numbers(values))

    def samples(self, step: int, rows: Sequence[Row]) -> None:
        events = self._file()
        from tensorboardX.summary import text

        for number, row in enumerate(rows):
            events.add(step, text(f"samples/{number}", as_markdown(row)))

    def sync(self) -> None:
        if self._events is not None:
            self._events.flush()

    def close(self) -> None:
        events, self._events = self._events, None
        if events is not None:
            events.close()

    def _file(self) -> EventFile:
        """The event file of this start, which begins with the options that were changed."""
        if self._events is None:
            self._events = EventFile(self._folder, self._purge)
            from tensorboardX.summary import hparams

            if self._changed:
                told = {name: v if isinstance(v, bool | int | float) else str(v) for name, v in self._changed.items()}
                for summary in hparams(told, {"true/accuracy": None, "loss": None}):
                    self._events.add(0, summary)
        return self._events
