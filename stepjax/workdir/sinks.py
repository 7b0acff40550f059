"""The sinks by their names in `config.log.sinks`, and the metrics of a stage with those that a config chooses."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stepjax.config import Config, LogOptions
from stepjax.errors import UserError, nearest
from stepjax.options.changed import changed
from stepjax.workdir.console_sink import ConsoleSink
from stepjax.workdir.jsonl_sink import JsonlSink
from stepjax.workdir.metrics import Metrics
from stepjax.workdir.sink import Sink, Watched
from stepjax.workdir.tensorboard import TensorBoardSink
from stepjax.workdir.wandb_sink import WandbSink, check_wandb


@dataclass(frozen=True)
class SinkEntry:
    """How a sink comes to be.

    Attributes:
      make: for a stage; it opens nothing yet.
      lacks: why it cannot be used on this machine; None: it can.
      always: it takes every run's metrics, named or not.
    """

    make: Callable[[Watched], Sink]
    lacks: Callable[[], str | None] = lambda: None
    always: bool = False


SINKS = {
    "jsonl": SinkEntry(JsonlSink, always=True),
    "tensorboard": SinkEntry(TensorBoardSink),
    "wandb": SinkEntry(WandbSink, check_wandb),
    "console": SinkEntry(ConsoleSink),
}


def chosen_sinks(options: LogOptions) -> list[str]:
    """The names in `log.sinks`, each once, without those that are always there; UserError for an unknown one."""
    names = dict.fromkeys(name for name in map(str.strip, options.sinks.split(",")) if name)
    for name in names:
        if name not in SINKS:
            raise UserError(f"config.log.sinks: no sink {name!r}{nearest(name, SINKS)}")
    return [name for name in names if not SINKS[name].always]


def open_metrics(workdir: Path, stage: str, config: Config) -> Metrics:
    """The metrics of a stage, with the sinks that the config chooses; UserError for one that cannot be used here."""
    names = chosen_sinks(config.log)
    for name in names:
        if lacks := SINKS[name].lacks():
            raise UserError(f"config.log.sinks={config.log.sinks}: {lacks}")
    differing = {name: value for name, value, _ in changed(config)}
    watched = Watched(workdir, stage, config.log, dataclasses.asdict(config), differing)
    return Metrics(workdir, stage, {name: SINKS[name].make(watched) for name in names})
