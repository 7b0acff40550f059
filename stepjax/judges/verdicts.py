"""From a judge's reply to ratings, or to the reason for rejecting it.

A judge may say what it likes around its verdicts (think aloud, fence them, comment on them); the verdicts themselves
are validated strictly. Anything but one list of the requested format is rejected, nothing is guessed.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

RATINGS = {"good": 1, "neutral": 0, "bad": -1}
LONGEST = 64 * 1024
"""Characters of the longest reply that is read, without the judge's thoughts."""

_THOUGHT = r"(?:think|thinking|thought|thoughts|reasoning)"
_THOUGHT_ENDS = re.compile(rf"</{_THOUGHT}>", re.IGNORECASE)
_THOUGHT_BEGINS = re.compile(rf"<{_THOUGHT}>", re.IGNORECASE)
_LINE = re.compile(r"verdicts?\s*:\s*((?:good|neutral|bad)(?:\s*,\s*(?:good|neutral|bad))*)\s*\.?", re.IGNORECASE)
_OBJECT_BEGINS = re.compile(r'\{\s*["}]')
_BEGINS = re.compile(r"(?:```\w*\s*)?\{")
_MOST_OBJECTS = 1000


class Malformed(ValueError):
    """A reply that is not a list of verdicts; the message says why and contains nothing of the reply."""


def read_verdicts(reply: str, steps: int, *, cut: bool = False) -> list[int]:
    """Ratings, one per step: −1, 0 or +1.

    A reply holds one JSON object `{"verdicts": ["good", …]}` with a verdict per step, anywhere after the judge's
    thoughts (`<think>…</think>`): alone, in a code fence, between sentences. Other objects may stand beside it, and the
    same one again. Or its last line is `Verdicts: good, neutral, bad`.

    Args:
      cut: the reply was cut off at its limit. Then the object must begin it: elsewhere it may be a draft in thoughts
        whose end is missing.

    Raises:
      Malformed: for anything else: another number of verdicts, another word among them, another field beside them, or
        two lists that fit and differ.
    """
    text = _said(reply)
    if len(text) > LONGEST:
        raise Malformed(f"the reply is longer than {LONGEST} characters")
    if cut and not _BEGINS.match(text):
        raise Malformed("the reply was cut off before its verdicts")
    found: list[list[int]] = []
    faults = []
    if not cut and (line := _LINE.fullmatch(text.rsplit("\n", 1)[-1].strip())):
        found.append(_ratings([word.strip().lower() for word in line.group(1).split(",")], steps))
    for value in _objects(text):
        try:
            found.append(_ratings(_verdicts(value), steps))
        except Malformed as fault:
            faults.append((value is not None and "verdicts" in value, fault))
    if not found:
        # The fault of the last object that means to be the one, else of the last one.
        raise (
            max(enumerate(faults), key=lambda entry: (entry[1][0], entry[0]))[1][1]
            if faults
            else Malformed("the reply is no JSON object")
        )
    if any(other != found[0] for other in found):
        raise Malformed("the reply has several lists of verdicts that differ")
    return found[0]


def _said(reply: str) -> str:
    """The reply without the thoughts at its beginning."""
    text = reply.strip()
    if not text:
        raise Malformed("the reply is empty")
    last = None
    for last in _THOUGHT_ENDS.finditer(text):  # noqa: B007 - the last one is used
        pass
    if last is not None:
        text = text[last.end() :].strip()
        if not text:
            raise Malformed("the reply ends with the judge's thoughts")
    if _THOUGHT_BEGINS.match(text):
        raise Malformed("the reply ends within the judge's thoughts")
    return text


def _objects(text: str) -> Iterator[dict[str, Any] | None]:
    """The JSON objects in a text, without those inside of others; None for one in which a field stands twice."""
    at = 0
    for _ in range(_MOST_OBJECTS):
        begin = _OBJECT_BEGINS.search(text, at)
        if begin is None:
            return
        try:
            value, at = _DECODER.raw_decode(text, begin.start())
        except (ValueError, RecursionError):
            at = begin.start() + 1
        else:
            yield value if isinstance(value, dict) else None
    raise Malformed("the reply holds too many braces")


def _once(pairs: list[tuple[str, Any]]) -> Any:
    return dict(pairs) if len({name for name, _ in pairs}) == len(pairs) else _TWICE


_TWICE = "a field stands twice"
_DECODER = json.JSONDecoder(object_pairs_hook=_once)


def _verdicts(found: dict[str, Any] | None) -> list[Any]:
    if found is None:
        raise Malformed("the reply is no JSON object: a field stands twice")
    if set(found) != {"verdicts"}:
        raise Malformed("the reply's JSON object must have the one field verdicts")
    if not isinstance(found["verdicts"], list):
        raise Malformed("the field verdicts must be a list")
    return found["verdicts"]


def _ratings(verdicts: list[Any], steps: int) -> list[int]:
    if len(verdicts) != steps:
        raise Malformed(f"the reply has {len(verdicts)} verdicts for {steps} steps")
    if any(not isinstance(verdict, str) or verdict not in RATINGS for verdict in verdicts):
        raise Malformed("a verdict is none of good, neutral, bad")
    return [RATINGS[verdict] for verdict in verdicts]
