"""A response as a conversation: the messages that TRL, axolotl and LLaMA-Factory train a chat model on."""

from collections.abc import Sequence
from typing import Any

from stepjax.config import ExportOptions
from stepjax.data.schema import LabelledSolution
from stepjax.distil.worth_learning import wrong_tries
from stepjax.errors import UserError
from stepjax.tasks.base import Problem
from stepjax.tasks.prompts import Prompt


def conversation(
    record: LabelledSolution, problem: Problem, prompt: Prompt, options: ExportOptions, separator: str
) -> dict[str, Any]:
    """The row of a response: `messages`, and what identifies and grades it.

    Where wrong steps are masked, each message has axolotl's `train`, and an assistant's with wrong steps also
    `train_detail`: stretches of characters, both ends included, that are learned or not.
    """
    text = record.extra.get("text")
    content = prompt.options.prefill + (text if isinstance(text, str) and text else separator.join(record.steps))
    messages: list[dict[str, Any]] = [*prompt.messages(problem), {"role": "assistant", "content": content}]
    if options.tries == "mask":
        for message in messages:
            message["train"] = message["role"] == "assistant"
        if wrong := wrong_tries(record, options):
            messages[-1]["train_detail"] = train_detail(content, record.steps, wrong)
    row: dict[str, Any] = {"messages": messages}
    return row | {name: value for name in ("id", "answer") if (value := getattr(record, name))}


def train_detail(content: str, steps: Sequence[str], wrong: Sequence[int]) -> list[dict[str, Any]]:
    """The whole content in stretches: a wrong step, up to the beginning of the next, is not learned."""
    starts, at = [], 0
    for step in steps:
        at = content.find(step, at)
        if at < 0:
            raise UserError(
                f"a record's text does not hold its step {step[:40]!r}; export with wrong tries learned or dropped"
            )
        starts.append(at)
        at += len(step)
    ends = [*starts[1:], len(content)]
    learned = [True] * len(content)
    for number in wrong:
        learned[starts[number] : ends[number]] = [False] * (ends[number] - starts[number])
    found: list[dict[str, Any]] = []
    for place, train in enumerate(learned):
        if found and found[-1]["train"] == train:
            found[-1]["end_offset"] = place
        else:
            found.append({"begin_offset": place, "end_offset": place, "train": train})
    return found
