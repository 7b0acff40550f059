"""What can be made of some numbers: exact, by enumeration.

A hand is the values that are there, in ascending order. A move takes two of them and puts their result in their place;
the end is a single value. Values are modulo m.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from stepjax.tasks.register_chain.program import apply

Hand = tuple[int, ...]


class Rules(NamedTuple):
    """`operators`: distinct ones."""

    operators: str
    modulus: int


class Move(NamedTuple):
    """`left operator right = value`, after which the hand is `rest`."""

    left: int
    operator: str
    right: int
    value: int
    rest: Hand


def hand_of(values: Iterable[int]) -> Hand:
    """The values in ascending order."""
    return tuple(sorted(values))


@lru_cache(maxsize=1 << 16)
def moves(hand: Hand, rules: Rules) -> tuple[Move, ...]:
    """All distinct ones. What commutes is named once, the smaller value first."""
    found: dict[tuple[int, str, int], Move] = {}
    for i, x in enumerate(hand):
        for j, y in enumerate(hand):
            if i == j:
                continue
            others = [value for k, value in enumerate(hand) if k not in (i, j)]
            for operator in rules.operators:
                if operator != "-" and x > y:
                    continue
                value = apply(operator, x, y, rules.modulus)
                found.setdefault((x, operator, y), Move(x, operator, y, value, hand_of([*others, value])))
    return tuple(found.values())


@lru_cache(maxsize=1 << 16)
def ends(hand: Hand, rules: Rules) -> frozenset[int]:
    """The values that the whole hand can become."""
    if len(hand) == 1:
        return frozenset(hand)
    return frozenset().union(*(ends(move.rest, rules) for move in moves(hand, rules)))


@lru_cache(maxsize=1 << 18)
def chance(hand: Hand, target: int, rules: Rules) -> float:
    """The probability that a hand becomes the target where each move is drawn evenly from all: the exact value of a
    state under that policy."""
    if len(hand) == 1:
        return float(hand[0] == target)
    found = moves(hand, rules)
    return sum(chance(move.rest, target, rules) for move in found) / len(found)
