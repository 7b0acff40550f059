"""Sets of real numbers: unions of intervals in one form."""

from collections.abc import Sequence
from typing import Any

from stepjax.answers.equality import equal, real
from stepjax.answers.evaluation import Doubt
from stepjax.answers.expression_trees import Tree
from stepjax.answers.tokens import Unreadable
from stepjax.answers.values import Group, Named, Piece, Quantity, Ranges, Value

_INFINITE = ("const", "inf")


def as_ranges(value: Value, *, points: bool = False) -> Ranges | None:
    """A value as a set of real numbers: a range, two items in brackets and, with `points`, a finite set; else None."""
    if isinstance(value, Named) and isinstance(value.value, (Group, Ranges)):
        inner = as_ranges(value.value, points=points)
        return inner and Ranges(inner.pieces, inner.without, value.name)
    if isinstance(value, Ranges):
        return value
    if not isinstance(value, Group) or not all(isinstance(i, Quantity) and not i.unit for i in value.items):
        return None
    trees = [item.tree for item in value.items if isinstance(item, Quantity)]
    if value.opening == r"\{":
        return Ranges(tuple(Piece(tree, True, tree, True) for tree in trees)) if points else None
    if value.opening not in ("(", "[") or value.closing not in (")", "]") or len(trees) != 2:
        return None
    low = None if trees[0] == ("neg", _INFINITE) else trees[0]
    high = None if trees[1] == _INFINITE else trees[1]
    return Ranges((Piece(low, value.opening == "[", high, value.closing == "]"),))


def union(parts: Sequence[Ranges]) -> Ranges:
    """All that is in one of them.

    Raises:
      Unreadable: for ranges of several variables, or without some points.
    """
    names = {part.name for part in parts}
    if len(names) > 1 or any(part.without for part in parts):
        raise Unreadable("a union of what?")
    return Ranges(tuple(piece for part in parts for piece in part.pieces), (), names.pop())


def intersection(parts: Sequence[Ranges]) -> Ranges:
    """All that is in every one of them, where those are two half-lines that face each other.

    Raises:
      Unreadable: for anything else.
    """
    names = {part.name for part in parts}
    pieces = [piece for part in parts for piece in part.pieces]
    if len(names) == 1 and len(parts) == len(pieces) == 2 and not any(part.without for part in parts):
        for one, other in (pieces, pieces[::-1]):
            if one.high is None and other.low is None:
                return Ranges((Piece(one.low, one.low_closed, other.high, other.high_closed),), (), names.pop())
    raise Unreadable("an intersection of what?")


def complement(whole: Ranges, points: Sequence[Tree]) -> Ranges:
    """The set without some points."""
    return Ranges(whole.pieces, (*whole.without, *points), whole.name)


def same_ranges(a: Ranges, b: Ranges) -> bool:
    """Whether two sets of numbers are equal; a set with variables in its ends is compared end by end."""
    if a.name and b.name and a.name != b.name:
        return False
    try:
        return _normal(a) == _normal(b)
    except Doubt:
        pass
    if len(a.pieces) != len(b.pieces) or a.without or b.without:
        return False
    return all(
        (p.low_closed, p.high_closed) == (q.low_closed, q.high_closed)
        and _same_end(p.low, q.low)
        and _same_end(p.high, q.high)
        for p, q in zip(a.pieces, b.pieces, strict=True)
    )


def _same_end(one: Tree | None, other: Tree | None) -> bool:
    return one is other if one is None or other is None else equal(one, other)


class _End:
    """An end's place, equal to others of (symbolically) the same value."""

    def __init__(self, tree: Tree | None, infinite: float):
        self.tree = tree
        self.place: Any = infinite if tree is None else real(tree)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _End) and (
            self.place == other.place
            if self.tree is None or other.tree is None
            else _close(self.place, other.place) and equal(self.tree, other.tree)
        )

    def __lt__(self, other: "_End") -> bool:
        return self != other and bool(self.place < other.place)


def _close(a: Any, b: Any) -> bool:
    return bool(a == b or abs(a - b) <= 1e-9 * max(abs(a), abs(b)))


def _normal(ranges: Ranges) -> list[tuple[_End, bool, _End, bool]]:
    """Disjoint intervals in ascending order, none of them empty, no two of them with no gap between."""
    pieces: list[list[Any]] = []
    for piece in ranges.pieces:
        low, high = _End(piece.low, float("-inf")), _End(piece.high, float("inf"))
        closed = (piece.low_closed and piece.low is not None, piece.high_closed and piece.high is not None)
        if high < low or (low == high and not all(closed)):
            raise Doubt("an empty interval")
        pieces.append([low, closed[0], high, closed[1]])
    for tree in ranges.without:
        point = _End(tree, 0.0)
        pieces = [part for piece in pieces for part in _cut(piece, point)]
    pieces.sort(key=_Key)
    merged: list[list[Any]] = []
    for low, low_closed, high, high_closed in pieces:
        last = merged[-1] if merged else None
        if last and (low < last[2] or (low == last[2] and (low_closed or last[3]))):
            if low == last[0]:
                last[1] |= low_closed
            if last[2] < high:
                last[2:] = [high, high_closed]
            elif last[2] == high:
                last[3] |= high_closed
        else:
            merged.append([low, low_closed, high, high_closed])
    return [tuple(piece) for piece in merged]  # type: ignore[misc]


class _Key:
    """Sorts intervals by their lower ends, closed ones first."""

    def __init__(self, piece: list[Any]):
        self.piece = piece

    def __lt__(self, other: "_Key") -> bool:
        low, closed = self.piece[:2]
        if low == other.piece[0]:
            return bool(closed and not other.piece[1])
        return bool(low < other.piece[0])


def _cut(piece: list[Any], point: _End) -> list[list[Any]]:
    low, low_closed, high, high_closed = piece
    if point < low or high < point:
        return [piece]
    parts = []
    if low < point:
        parts.append([low, low_closed, point, False])
    if point < high:
        parts.append([point, False, high, high_closed])
    return parts
