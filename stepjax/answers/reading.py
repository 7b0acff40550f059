r"""Texts of answers read as typed values: `x \ge 3` as a range, `(1,2)` as a group, `\text{east}` as words.

What an answer looks like decides its type, from the loosest sign to the tightest: lists, unions, relations, ratios,
brackets, numbers with units, expressions. What nothing fits is opaque.
"""

import re
from functools import lru_cache
from itertools import pairwise

from stepjax.answers.expression_trees import Tree
from stepjax.answers.expressions import parse
from stepjax.answers.quantities import both_signs, quantity, words
from stepjax.answers.ranges import as_ranges, complement, intersection, union
from stepjax.answers.relations import SIGNS, merged, name_in, names_in, relation
from stepjax.answers.spelling import spell, squeeze
from stepjax.answers.tokens import OPENING, Tokens, Unreadable, matching, split, tokenize
from stepjax.answers.values import (
    Chain,
    Choice,
    Group,
    Matrix,
    Modular,
    Named,
    Opaque,
    Piece,
    Quantity,
    Ranges,
    Ratio,
    Relation,
    Several,
    Value,
    Words,
    several,
)

MOST_ITEMS = 40
_WORDS = {"and", "or"}
_LOGIC = {r"\land", r"\lor", r"\wedge", r"\vee"}  # between equations and inequalities words, else operations
_EITHER = {"or", r"\lor", r"\vee"}
_MATRIX = re.compile(r"\\begin\s*\{([bp]?matrix)\}(.*)\\end\s*\{\1\}", re.DOTALL)
_EMPTY = (r"\emptyset", r"\varnothing")
_PARTS_OF_DAY = ("am", "pm")


@lru_cache(maxsize=16384)
def read(text: str, *, plain: bool = False) -> Value:
    r"""The value of an answer's text.

    Args:
      text: the answer.
      plain: whether it is plain text rather than mathematics: `5 m` is then five metres, and `42!` has no factorial.
    """
    if plain:
        text = re.sub(r"[\s!;:,]+$", "", text)
    text = spell(text)
    try:
        return _Reader(plain).any(text)
    except (Unreadable, RecursionError):
        return Opaque(squeeze(text))


class _Reader:
    """Reads tokens as a value; each method knows one kind of answer and hands the rest to the next."""

    def __init__(self, plain: bool):
        self.plain = plain

    def any(self, text: str) -> Value:
        matrix = _MATRIX.fullmatch(text)
        if matrix:
            return self.matrix(matrix[2])
        if r"\begin" in text:
            raise Unreadable("an environment")
        tokens = tokenize(text)
        if not tokens:
            raise Unreadable("nothing")
        return self.answers(tokens)

    def matrix(self, text: str) -> Value:
        rows = [row for row in re.split(r"\\\\(?:\[[^\]]*\])?", text) if row.strip()]
        cells = tuple(tuple(self.answers(tokenize(cell.strip())) for cell in row.split("&")) for row in rows)
        if not cells or len({len(row) for row in cells}) != 1:
            raise Unreadable("no matrix")
        return Matrix(cells)

    def answers(self, tokens: Tokens) -> Value:
        """One answer, or several behind commas, "and" and "or"."""
        choice = self.choice(tokens)
        if choice is not None:
            return choice
        parts, signs = split(tokens, {",", ";", *_WORDS, *_LOGIC})
        kept = [i for i, part in enumerate(parts) if part]
        if len(parts) > MOST_ITEMS or not kept or kept[0] or kept[-1] != len(parts) - 1:
            raise Unreadable("an empty item")
        if any(b - a > 1 and signs[a:b] not in ([",", "and"], [",", "or"]) for a, b in pairwise(kept)):
            raise Unreadable("an empty item")
        items = [self.one(parts[i]) for i in kept]
        return self.joined(items, signs) if len(items) > 1 else self.doubled(items[0])

    def joined(self, items: list[Value], signs: list[str]) -> Value:
        """Items as one value: ranges as their union or intersection, `n=3,5` as `n=3,n=5`, `x=1, x=2` as `x=1,2`."""
        items = [part for item in items for part in both_signs(item)]
        sets = [item for item in items if isinstance(item, Ranges)]
        if len(sets) == len(items) and "," not in signs and ";" not in signs:
            if set(signs) <= _EITHER:
                return union(sets)
            if not set(signs) & _EITHER:
                return intersection(sets)
        first = items[0]
        if set(signs) & _LOGIC and not all(isinstance(item, (Named, Relation, Chain, Ranges)) for item in items):
            raise Unreadable("a formula of logic, not several answers")
        if set(signs) & _EITHER and len({item.name.partition("_")[0] for item in items if isinstance(item, Named)}) > 1:
            raise Unreadable("one of several unknowns")
        if set(signs) & _EITHER and any(_is_name(item) for item in items):
            raise Unreadable("one of several names, and not all of them")
        if any(isinstance(item, (Opaque, Several)) for item in items):
            raise Unreadable("an item is not understood")
        if isinstance(first, Named) and not any(
            isinstance(item, (Named, Relation, Chain, Ranges)) for item in items[1:]
        ):
            return Named(first.name, Several((first.value, *items[1:])))
        names = {item.name for item in items if isinstance(item, Named)}
        if len(names) == 1 and all(isinstance(item, Named) for item in items):
            return Named(names.pop(), Several(tuple(item.value for item in items if isinstance(item, Named))))
        return Several(tuple(items))

    def doubled(self, item: Value) -> Value:
        both = both_signs(item)
        if len(both) > 1 and isinstance(item, Named):
            return Named(item.name, Several(tuple(part.value for part in both if isinstance(part, Named))))
        return several(both)

    def choice(self, tokens: Tokens) -> Value | None:
        r"""`E`, `(E)`, `\text{E. The heavier one}`, `(E) 42`."""
        texts = [token.text for token in tokens]
        letter, after, rest = "", 0, None
        if tokens[0].kind == "text" and (match := re.match(r"\(?([A-J])[).:]\s*(.*)$", texts[0])):
            letter, after, rest = match[1], 1, words(match[2]) if match[2] else None
        elif len(tokens) == 1 and tokens[0].kind in ("letters", "text"):
            letter, after = texts[0], 1
        elif texts[0] == "(" and texts[2:3] == [")"]:
            letter, after = texts[1], 3
        elif tokens[0].kind == "letters" and texts[1:2] in ([")"], ["."]):
            letter, after = texts[0], 2
        if not re.fullmatch("[A-J]", letter):
            return None
        if after < len(tokens):
            if rest is not None:
                return None
            rest = self.answers(tokens[after:])
        if isinstance(rest, Choice):
            raise Unreadable("two choices")
        return Choice(letter, rest)

    def one(self, tokens: Tokens) -> Value:
        tokens, modulus = self.modulus(tokens)
        value = self.related(tokens)
        return value if modulus is None else Modular(value, modulus)

    def modulus(self, tokens: Tokens) -> tuple[Tokens, Tree | None]:
        place = next((i for i, token in enumerate(tokens) if token.text in (r"\pmod", r"\bmod", r"\mod")), None)
        if place is None:
            return tokens, None
        tree = parse(tokens[place + 1 :])
        return tokens[:place], tree

    def related(self, tokens: Tokens) -> Value:
        """An equation, an inequality or a chain of them; else a set or a quantity."""
        tokens = merged(tokens)
        parts, signs = split(tokens, set(SIGNS))
        if not signs:
            return self.set(tokens)
        signs = [SIGNS[sign] for sign in signs]
        if not all(parts):
            raise Unreadable("a side is missing")
        name = name_in(parts[0]) if signs in (["="], ["in"]) else None
        if signs == ["in"]:
            value = self.set(parts[1])
            if name is None or not isinstance(value, (Group, Ranges)):
                raise Unreadable("what is in what set?")
            found = as_ranges(value)
            return Named(name, value) if found is None else Ranges(found.pieces, found.without, name)
        if name is not None:
            return Named(name, self.set(parts[1]))
        if signs == ["="] and (names := names_in(parts[0])):
            point = self.set(parts[1])
            if isinstance(point, Group) and len(point.items) == len(names):
                return Several(tuple(Named(n, item) for n, item in zip(names, point.items, strict=True)))
        if "in" in signs:
            raise Unreadable("what is in the set?")
        return relation([parse(part) for part in parts], signs)

    def set(self, tokens: Tokens) -> Value:
        if not tokens:
            raise Unreadable("nothing")
        parts, _ = split(tokens, {r"\cup"})
        if len(parts) > 1:
            found = [as_ranges(self.set(part), points=True) for part in parts]
            if any(part is None for part in found):
                raise Unreadable("a union of what?")
            return union([part for part in found if part])
        parts, signs = split(tokens, {r"\setminus", r"\backslash"})
        if len(signs) == 1:
            whole, points = as_ranges(self.set(parts[0])), self.set(parts[1])
            if whole is None or not isinstance(points, Group) or points.opening != r"\{":
                raise Unreadable("a difference of what?")
            return complement(whole, [_tree(item) for item in points.items])
        return self.ratio(tokens)

    def ratio(self, tokens: Tokens) -> Value:
        parts, signs = split(tokens, {":"})
        if not signs:
            return self.bracketed(tokens)
        unit: tuple[str, ...] = ()
        last = parts[-1]
        if last and last[-1].kind in ("text", "letters"):
            word = re.sub(r"[^a-z]", "", "".join(t.text.lower() for t in last if t.kind != "number"))
            if word in _PARTS_OF_DAY and last[0].kind == "number":
                parts[-1], unit = last[:1], (word,)
        return Ratio(tuple(Quantity(parse(part)) for part in parts), unit)

    def bracketed(self, tokens: Tokens) -> Value:
        texts = [token.text for token in tokens]
        if texts in ([r"\mathbb{R}"], [r"\R"], [r"\reals"]):
            return Ranges((Piece(None, False, None, False),))
        if len(texts) == 1 and texts[0] in _EMPTY:
            return Group(r"\{", r"\}", ())
        opening = texts[0] if tokens[0].kind in ("sign", "command") else ""
        if opening not in OPENING or matching(tokens, 0) != len(tokens) - 1 or opening in (r"\lfloor", r"\lceil"):
            return quantity(tokens, self.plain)
        inner = tokens[1:-1]
        if opening == "{":
            return self.answers(inner) if inner else Opaque("{}")
        parts, _ = split(inner, {",", ";"})
        if opening == "(" and len(parts) == 1 and texts[-1] == ")":
            return self.answers(inner) if inner else Opaque("()")
        if opening == r"\{" and not inner:
            return Group(opening, texts[-1], ())
        if len(parts) > MOST_ITEMS or not all(parts):
            raise Unreadable("an empty item")
        items = [self.one(part) for part in parts]
        if any(isinstance(item, Opaque) for item in items):
            raise Unreadable("an item is not understood")
        if opening == r"\{":
            items = [part for item in items for part in both_signs(item)]
        return Group(opening, texts[-1], tuple(items))


def _tree(value: Value) -> Tree:
    if not isinstance(value, Quantity) or value.unit:
        raise Unreadable("no plain number")
    return value.tree


def _is_name(value: Value) -> bool:
    """Whether a value is a word or a letter, and not a number: of these, one or the other is not both."""
    return isinstance(value, Words) or (isinstance(value, Quantity) and value.tree[0] == "sym")
