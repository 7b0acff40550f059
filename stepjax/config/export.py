"""`stepjax export`."""

from dataclasses import dataclass

from stepjax.config.option import option


@dataclass(frozen=True)
class ExportOptions:
    """`stepjax export`: write a stage's policy as a Hugging Face folder."""

    stage: str = option("ppo", "the stage whose policy is written", choices=("sft", "ppo"), resumable=True)
    out: str = option("", "the folder to write, new or empty", resumable=True)
    adapter: bool = option(
        False,
        "write only the adapters, as a PEFT adapter, instead of the weights with the adapters merged into them",
        resumable=True,
    )
