"""`stepjax export`."""

from dataclasses import dataclass

from stepjax.config.option import option


@dataclass(frozen=True)
class ExportOptions:
    """`stepjax export`: write a stage's policy as a Hugging Face folder."""

    stage: str = option("ppo", "the stage whose policy is written", choices=("sft", "ppo"), resumable=True)
    out: str = option(
        "",
        "the folder to write, new or empty; with `push` it may be left out: WORKDIR/exported/STAGE, replaced if it is "
        "there",
        resumable=True,
    )
    push: str = option(
        "", "owner/name of a repository on the Hugging Face hub that the folder is uploaded to", resumable=True
    )
    private: bool = option(False, "a repository that `push` makes is private", resumable=True)
    adapter: bool = option(
        False,
        "write only the adapters, as a PEFT adapter, instead of the weights with the adapters merged into them",
        resumable=True,
    )
