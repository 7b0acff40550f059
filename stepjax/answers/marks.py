r"""Where a response says its final answer: `#### …`, `\boxed{…}`, `<answer>…</answer>`, or its last sentence."""

import re
from collections import deque
from typing import NamedTuple

_MARK = re.compile(r"(?<!#)####(?!#)|\\(?:boxed|fbox)(?![a-zA-Z])|(?i:<answer>)")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_END = re.compile(r"(?:<\|[a-z_]{1,20}\|>|</s>|<eos>)\Z")
_STATED = re.compile(
    r"\banswer(?:\s+is)?(?:\s*:\**|(?<=is)\s)\s*(\S(?:[^\n]{0,300}\S)?)\s*\Z|\banswer\s*=\s*(\S[^\n]{0,300})\Z",
    re.IGNORECASE,
)
_LABEL = re.compile(r"^(?:\**\s*(?:the\s+)?(?:final\s+)?answer\s*(?:is\s*:?|:)\s*\**)\s*", re.IGNORECASE)
_CLOSED = re.compile("</answer>", re.IGNORECASE)
_TAIL = 400
_MOST_BOXES = 64


class FinalAnswer(NamedTuple):
    """The text of a mark, and whether it is mathematics (of a box) rather than plain text."""

    text: str
    boxed: bool


def final_answer(text: str) -> FinalAnswer | None:
    r"""The content of the last mark, or what the last sentence states.

    A mark is `####` (the rest of its line), `\boxed` or `\fbox` (the braces' content, empty where they are not closed)
    or `<answer>` (up to `</answer>`, empty without). Without any, "Answer: …" or "the answer is …" in the last line
    counts, where nothing follows.
    """
    marked = marked_answer(text)
    return stated_answer(text) if marked is None else marked


def marked_answer(text: str) -> FinalAnswer | None:
    """The content of the last mark, whatever its kind; None without one."""
    last = next(iter(deque(_MARK.finditer(text), maxlen=1)), None)
    if last is None:
        return None
    if last[0] == "####":
        line = text[last.end() :].split("\n", 1)[0]
        return FinalAnswer(_LABEL.sub("", _without_ends(line).strip("*").strip()).strip("* "), boxed=False)
    if last[0].lower() == "<answer>":
        closed = _CLOSED.search(text, last.end())
        return FinalAnswer(text[last.end() : closed.start()].strip() if closed else "", boxed=False)
    return FinalAnswer(_argument(text, last.end()), boxed=True)


def stated_answer(text: str) -> FinalAnswer | None:
    """What the last line says behind "answer is" or "Answer:"; None where it says nothing."""
    tail = _without_ends(text[-_TAIL:])
    match = _STATED.search(tail[tail.rfind("\n") + 1 :])
    if match is None:
        return None
    found = (match[1] or match[2]).strip().strip("*").strip()
    return FinalAnswer(found, boxed=False) if found else None


def _without_ends(text: str) -> str:
    """The text without white space around it and without the names of end tokens behind it."""
    text = text.strip()
    while match := _END.search(text, max(len(text) - 24, 0)):
        text = text[: match.start()].rstrip()
    return text


def all_boxes(text: str) -> list[str]:
    """The contents of all boxes, each once; empty where there is another mark, an unclosed or long one, or too many."""
    marks = list(_MARK.finditer(text))
    if len(marks) > _MOST_BOXES or any(mark[0] not in (r"\boxed", r"\fbox") for mark in marks):
        return []
    found = [_argument(text[: mark.end() + _TAIL], mark.end()) for mark in marks]
    return list(dict.fromkeys(found)) if all(found) else []


def _argument(text: str, start: int) -> str:
    """A command's argument at `start`: a group in braces (empty where it is unclosed), else the rest of the formula."""
    rest = text[start:].lstrip()
    if not rest.startswith("{"):
        return re.split(r"[$\n]", rest, maxsplit=1)[0].strip()
    depth = 0
    for match in _BRACE.finditer(rest):
        depth += (match[0] == "{") - (match[0] == "}")
        if depth == 0:
            return rest[1 : match.start()].strip()
    return ""
