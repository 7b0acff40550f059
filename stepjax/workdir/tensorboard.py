"""Scalars for TensorBoard: one event file for each start of a stage.

Events are written by the caller, not through tensorboardX's `SummaryWriter`: its thread dies at the first error (a full
disk), after which the writer waits forever for the dead thread.
"""

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

FLUSH_SECONDS = 10.0
"""Longest delay, in seconds, until a reader sees a scalar (at once after `flush`)."""


class EventFile:
    """An event file in `folder`; TensorBoard ignores the steps of earlier files from `purge` on."""

    def __init__(self, folder: Path, purge: int | None = None):
        """Raises OSError where the file cannot be created; the other methods where it cannot be written."""
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

        values = [Summary.Value(tag=name, simple_value=number) for name, number in scalars]
        summary = Summary(value=values)
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
