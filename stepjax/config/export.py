"""`stepjax export`."""

from dataclasses import dataclass

from stepjax.config.option import option
from stepjax.config.policies import NEWEST, POLICIES


@dataclass(frozen=True)
class ExportOptions:
    """`stepjax export`: write a stage's policy as a Hugging Face folder, or responses as conversations."""

    what: str = option(
        "policy",
        "policy (a Hugging Face folder) or conversations (a chat JSONL of chosen responses)",
        choices=("policy", "conversations"),
        resumable=True,
    )
    stage: str = option(
        "", f"the stage whose policy is written; empty: {NEWEST}", choices=("", *POLICIES), resumable=True
    )
    out: str = option(
        "",
        "the folder to write, new or empty; with `push` it may be left out: WORKDIR/exported/STAGE, replaced if it is "
        "there; of conversations, a new file",
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
    responses: str = option(
        "",
        "conversations: JSONL files of `stepjax sample`, `eval` or `search`, separated by commas; empty: "
        "samples/STAGE-train.jsonl of the work directory",
        resumable=True,
    )
    right: bool = option(True, "conversations: only responses with the right answer", resumable=True)
    least_score: float = option(
        0.0,
        "conversations: only responses each of whose steps has at least this P(right) by the process reward model; 0: "
        "scores do not matter",
        least=0,
        most=1,
        resumable=True,
    )
    distinct: bool = option(
        True, "conversations: of a problem's responses that differ in white space alone, only the first", resumable=True
    )
    per_problem: int = option(
        0,
        "conversations: most responses to a problem, those with the highest least score; 0: all",
        least=0,
        resumable=True,
    )
    tries: str = option(
        "learn",
        "conversations: wrong steps (by exact ratings, else by scores below least_score) are learned like the others "
        "(learn), kept and marked as not to be learned (mask), or their responses left out (drop)",
        choices=("learn", "mask", "drop"),
        resumable=True,
    )
