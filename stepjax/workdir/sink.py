"""What takes the metrics and samples of a training run: the interface of every sink."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from stepjax.config import LogOptions

Row = Mapping[str, Any]
"""Nested values in JSON's types (`workdir.json_file.plain`)."""


class Sink(Protocol):
    """One stage's metrics and samples, in order of steps.

    Any method may raise: `workdir.metrics` then leaves the sink out, says so once, and the run goes on. Nothing else
    may depend on what a sink has: metrics.jsonl and samples.jsonl are what a run is resumed and reported from.
    """

    def resume(self, step: int) -> None:
        """Called before the first `write` of a start: the stage goes on after `step` (0: begins), and the steps above
        it, which a killed run may have logged, are logged again."""
        ...

    def write(self, step: int, values: Row) -> None:
        """The figures of a step."""
        ...

    def samples(self, step: int, rows: Sequence[Row]) -> None:
        """Responses of a step, as samples.jsonl has them."""
        ...

    def sync(self) -> None:
        """Returns when a reader can have all that was written; called before a checkpoint."""
        ...

    def close(self) -> None:
        """The stage has ended here, finished or not."""
        ...


@dataclass(frozen=True)
class Watched:
    """What a sink is told of the stage that it takes.

    Attributes:
      config: all options of the run, nested.
      changed: those that differ from the defaults, by dotted names.
    """

    workdir: Path
    stage: str
    log: LogOptions = field(default_factory=LogOptions)
    config: Mapping[str, Any] = field(default_factory=dict)
    changed: Mapping[str, Any] = field(default_factory=dict)


def numbers(tree: Row, prefix: str = "") -> Iterator[tuple[str, float]]:
    """The finite numbers of nested values: `{"seconds": {"score": 0.5}}` gives `("seconds/score", 0.5)`."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from numbers(value, f"{prefix}{key}/")
        elif isinstance(value, (int, float)):
            yield f"{prefix}{key}", float(value)
