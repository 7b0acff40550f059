"""From a judge's reply to ratings, or to the reason for rejecting it. Replies are validated strictly: anything but the
requested format is rejected, nothing is guessed."""

import json
import re
from typing import Any

RATINGS = {"good": 1, "neutral": 0, "bad": -1}
LONGEST = 64 * 1024
"""Characters of the longest reply that is read."""

_FENCE = re.compile(r"```(?:json)?\s*\n(.*?)\n?\s*```", re.DOTALL)
_LINE = re.compile(r"verdicts?\s*:\s*((?:good|neutral|bad)(?:\s*,\s*(?:good|neutral|bad))*)\s*\.?", re.IGNORECASE)


class Malformed(ValueError):
    """A reply that is not a list of verdicts; the message says why and contains nothing of the reply."""


def read_verdicts(reply: str, steps: int) -> list[int]:
    """Ratings, one per step: −1, 0 or +1.

    A reply is one JSON object `{"verdicts": ["good", …]}`, alone, in a code fence, or on the last line (a judge may
    think aloud before it); or it ends in a line `Verdicts: good, neutral, bad`.

    Raises:
      Malformed: for anything else, another number of verdicts or another word among them.
    """
    if len(reply) > LONGEST:
        raise Malformed(f"the reply is longer than {LONGEST} characters")
    text = reply.strip()
    if not text:
        raise Malformed("the reply is empty")
    if fenced := _FENCE.fullmatch(text):
        text = fenced.group(1).strip()
    last = text.rsplit("\n", 1)[-1].strip()
    if line := _LINE.fullmatch(last):
        return _ratings([word.strip().lower() for word in line.group(1).split(",")], steps)
    found = _object(text)
    if found is None and last != text:
        found = _object(last)
    if found is None:
        raise Malformed("the reply is no JSON object")
    if set(found) != {"verdicts"}:
        raise Malformed("the reply's JSON object must have the one field verdicts")
    if not isinstance(found["verdicts"], list):
        raise Malformed("the field verdicts must be a list")
    return _ratings(found["verdicts"], steps)


def _object(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a field stands twice")
    return dict(pairs)


def _ratings(verdicts: list[Any], steps: int) -> list[int]:
    if len(verdicts) != steps:
        raise Malformed(f"the reply has {len(verdicts)} verdicts for {steps} steps")
    if any(not isinstance(verdict, str) or verdict not in RATINGS for verdict in verdicts):
        raise Malformed("a verdict is none of good, neutral, bad")
    return [RATINGS[verdict] for verdict in verdicts]
