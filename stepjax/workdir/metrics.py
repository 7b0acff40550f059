"""Logs of a stage of a run: metrics.jsonl and samples.jsonl, and what else takes them.

A run that is killed and resumed leaves the same lines as one that never stopped, timings apart: `resume` drops what was
logged after the checkpoint, and the steps that are repeated log it again. Timings lie under the key "seconds" and under
keys that start with "rate/".
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from stepjax.console.progress import say
from stepjax.errors import as_line
from stepjax.parallel import is_main_process
from stepjax.workdir.json_file import plain
from stepjax.workdir.jsonl_sink import JsonlSink
from stepjax.workdir.sink import Sink, Watched


class Metrics:
    """The metrics and samples of one stage of a work directory; in a multi-host run only process 0 writes.

    Where the JSONL files cannot be written the run ends, with a UserError; another sink that fails is left out from
    then on, with one line that says so.
    """

    def __init__(self, workdir: Path | str, stage: str, sinks: Mapping[str, Sink] | None = None):
        """`sinks`: those beside the JSONL files, by their names."""
        self._stage = stage
        self._active = is_main_process()
        self._lines = JsonlSink(Watched(Path(workdir), stage))
        self._others = dict(sinks or {}) if self._active else {}

    def resume(self, step: int) -> None:
        """Removes this stage's lines after `step`; −1 removes all of them. Call it before the first `write`."""
        if self._active:
            self._lines.resume(step)
            self._each(lambda sink: sink.resume(step), step)

    def logged(self) -> Iterator[dict[str, Any]]:
        """The stage's lines in metrics.jsonl, in order; none on the other processes of a multi-host run.

        Right after `resume` these are the lines up to its step.
        """
        return self._lines.logged() if self._active else iter(())

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Appends a line: step, stage, then `values` in their order."""
        if self._active:
            figures = plain(values)
            self._lines.write(step, figures)
            self._each(lambda sink: sink.write(step, figures), step)

    def append_samples(self, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Appends rows to samples.jsonl: step, stage, then what the row holds."""
        if self._active:
            samples: Sequence[dict[str, Any]] = [plain(row) for row in rows]
            self._lines.samples(step, samples)
            self._each(lambda sink: sink.samples(step, samples), step)

    def sync(self) -> None:
        """Returns when all of it is on the disk; called before a checkpoint, so that no line before one is lost."""
        if self._active:
            self._lines.sync()
            self._each(lambda sink: sink.sync())

    def close(self) -> None:
        """Closes the files."""
        self._lines.close()
        self._each(lambda sink: sink.close())

    def _each(self, call: Callable[[Sink], None], step: int | None = None) -> None:
        for name, sink in list(self._others.items()):
            try:
                call(sink)
            except Exception as error:  # a library of others, a network, a disk: none of them may end the run
                del self._others[name]
                where = self._stage if step is None else f"{self._stage} step {step}"
                told = as_line(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)[:300]
                say(
                    f"{where}: log.sinks={name} fails ({told}); the run goes on without it, and metrics.jsonl has all",
                    stream=sys.stderr,
                )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
