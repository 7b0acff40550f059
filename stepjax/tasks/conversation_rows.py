"""A conversation as a problem with its solution: rows with `messages`, as chat models are trained on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stepjax.data.fields import field
from stepjax.errors import UserError

MESSAGES = "messages"


@dataclass(frozen=True)
class Conversation:
    """One question and its answer.

    Attributes:
      system: what is said before the question, "" where nothing is.
      solution: None where the answer is not to be learned.
      unlearned: stretches (start, end) of the solution that are not learned.
    """

    system: str
    problem: str
    solution: str | None
    unlearned: tuple[tuple[int, int], ...]


def is_conversation(row: Mapping[str, Any]) -> bool:
    return isinstance(row.get(MESSAGES), list | tuple)


def read_conversation(row: Mapping[str, Any], place: str) -> Conversation:
    """The conversation of a row: a system message or none, one of the user, one of the assistant.

    The assistant's `train` and `train_detail` (stretches with `begin_offset` and `end_offset`, both included) say what
    is learned; without them all of it is.

    Raises:
      UserError: begins with `place`; other messages than these, or one without text.
    """
    messages = row[MESSAGES]
    roles = [field(row, f"{MESSAGES}.{k}.role", str, place) for k in range(len(messages))]
    texts = [field(row, f"{MESSAGES}.{k}.content", str, place) for k in range(len(messages))]
    if roles not in (["user", "assistant"], ["system", "user", "assistant"]):
        told = ", ".join(roles[:5]) or "none"
        raise UserError(f"{place}: a demonstration has messages of system (or not), user and assistant, not {told}")
    last = f"{MESSAGES}.{len(messages) - 1}"
    learned = field(row, f"{last}.train", bool, place, optional=True) is not False
    detail = field(row, f"{last}.train_detail", list | tuple, place, optional=True) or ()
    spans = []
    for k in range(len(detail)):
        begin, end, train = (
            field(row, f"{last}.train_detail.{k}.{name}", kind, place)
            for name, kind in (("begin_offset", int), ("end_offset", int), ("train", bool))
        )
        if not 0 <= begin <= end < len(texts[-1]):
            raise UserError(f"{place}: train_detail {begin} to {end} is no stretch of {len(texts[-1])} characters")
        if not train:
            spans.append((begin, end + 1))
    system = texts[0] if roles[0] == "system" else ""
    return Conversation(system, texts[-2], texts[-1] if learned else None, tuple(spans))
