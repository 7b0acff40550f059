"""Steps that say nothing new: those that repeat an earlier one of their response, and those without a word."""

import re
from collections import defaultdict
from collections.abc import Sequence

SIMILARITY = 0.8  # steps with the same numbers are nearly the same from this share of common words on
MOST_CHARACTERS = 512  # of a step that are compared
MOST_COMPARED = 32  # earlier steps of the same numbers that a step is compared with
_TOKEN = re.compile(r"[^\W\d_]+|[0-9]+(?:\.[0-9]+)?|[-+*/!?%]")

Bag = frozenset[tuple[str, int]]
"""The words, numbers and operators of a step, each with its how-manieth occurrence: a multiset."""


def repeated_steps(steps: Sequence[str]) -> tuple[int, int]:
    """How many steps say what one before them in the response said: word for word, and nearly so.

    Capitals, white space and punctuation do not matter. Two steps are nearly the same where they hold the same numbers
    and at least 80% (Jaccard) of their words and operators are common; word for word counts as nearly, too.
    """
    exact = near = 0
    texts: set[str] = set()
    bags: dict[tuple[str, ...], list[Bag]] = defaultdict(list)
    for step in steps:
        words = _TOKEN.findall(step[:MOST_CHARACTERS].casefold())
        if not words:
            continue  # an empty step, which has a monitor of its own
        text, bag = " ".join(words), _bag(words)
        alike = bags[tuple(sorted(w for w in words if w[0].isdigit()))]
        exact += text in texts
        near += text in texts or any(_similarity(bag, other) >= SIMILARITY for other in alike[-MOST_COMPARED:])
        texts.add(text)
        alike.append(bag)
    return exact, near


def _bag(words: Sequence[str]) -> Bag:
    count: dict[str, int] = defaultdict(int)
    pairs = []
    for word in words:
        pairs.append((word, count[word]))
        count[word] += 1
    return frozenset(pairs)


def _similarity(a: Bag, b: Bag) -> float:
    return len(a & b) / len(a | b)


def is_empty(step: str) -> bool:
    """Whether a step holds neither a letter nor a digit."""
    return not any(c.isalnum() for c in step)
