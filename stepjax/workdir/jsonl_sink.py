"""metrics.jsonl and samples.jsonl: what a run is resumed from, and what reports and comparisons read."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stepjax.workdir.json_lines import JsonLines, record_of_line
from stepjax.workdir.sink import Row, Watched


class JsonlSink:
    """The two files. Its methods raise UserError where they cannot be written."""

    def __init__(self, watched: Watched):
        self._stage = watched.stage
        self._lines = JsonLines(watched.workdir / "metrics.jsonl")
        self._samples = JsonLines(watched.workdir / "samples.jsonl")

    def resume(self, step: int) -> None:
        """Drops the stage's lines after `step`."""
        self._lines.resume(self._stage, step)
        self._samples.resume(self._stage, step)

    def write(self, step: int, values: Row) -> None:
        self._lines.append([self._headed(step, values)])

    def samples(self, step: int, rows: Sequence[Row]) -> None:
        self._samples.append(self._headed(step, row) for row in rows)

    def logged(self) -> Iterator[dict[str, Any]]:
        """The stage's lines in metrics.jsonl, in order."""
        if not self._lines.path.exists():
            return
        with open(self._lines.path, "rb") as lines:
            for line in lines:
                record = record_of_line(line)
                if record is not None and record.get("stage") == self._stage:
                    yield record

    def sync(self) -> None:
        self._lines.sync()
        self._samples.sync()

    def close(self) -> None:
        self._lines.close()
        self._samples.close()

    def _headed(self, step: int, values: Mapping[str, Any]) -> dict[str, Any]:
        head = {"step": step, "stage": self._stage}
        return head | {k: v for k, v in values.items() if k not in head}
