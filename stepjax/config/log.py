"""Where a training run is watched."""

from dataclasses import dataclass

from stepjax.config.option import option


@dataclass(frozen=True)
class LogOptions:
    """Where metrics and samples of training go, beside metrics.jsonl and samples.jsonl."""

    sinks: str = option(
        "tensorboard",
        "some of tensorboard, wandb and console, separated by commas; jsonl is always written; empty: nothing else",
        resumable=True,
    )
    project: str = option("stepjax", "wandb: the project", resumable=True)
    name: str = option("", "wandb: what the run is called; empty: the work directory's name", resumable=True)
    console: str = option(
        "loss,true/accuracy,reward,kl",
        "console: the figures that are printed, by their names or the parts of these before a `/`, separated by commas",
        resumable=True,
    )
