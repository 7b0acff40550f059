"""Equations and inequalities: their signs, the names they give, the ranges they describe."""

import re

from stepjax.answers.expression_trees import FUNCTIONS, GREEK, Tree, symbols
from stepjax.answers.ranges import complement
from stepjax.answers.tokens import Token, Tokens, Unreadable, split
from stepjax.answers.values import Chain, Named, Piece, Quantity, Ranges, Relation, Value

SIGNS = {
    **{
        "=": "=",
        "<": "<",
        ">": ">",
        r"\lt": "<",
        r"\gt": ">",
        r"\ne": "!=",
        r"\neq": "!=",
        r"\in": "in",
        r"\equiv": "≡",
    },
    **dict.fromkeys((r"\le", r"\leq", r"\leqslant"), "<="),
    **dict.fromkeys((r"\ge", r"\geq", r"\geqslant"), ">="),
}
_FLIPPED = {">": "<", ">=": "<="}


def merged(tokens: Tokens) -> Tokens:
    r"""Signs of two characters as one (`<=`), `\mathbb{R}` as one command."""
    merged: list[Token] = []
    i = 0
    while i < len(tokens):
        texts = [token.text for token in tokens[i : i + 4]]
        if texts[0] == r"\mathbb" and texts[1:2] == ["{"] and texts[3:] == ["}"]:
            merged.append(Token("command", rf"\mathbb{{{texts[2]}}}", tokens[i].spaced))
            i += 4
        elif texts[0] == r"\mathbb" and re.fullmatch("[A-Z]", "".join(texts[1:2])):
            merged.append(Token("command", rf"\mathbb{{{texts[1]}}}", tokens[i].spaced))
            i += 2
        elif texts[:2] in (["<", "="], [">", "="], ["!", "="]):
            merged.append(Token("command", {"<": r"\le", ">": r"\ge", "!": r"\ne"}[texts[0]]))
            i += 2
        else:
            merged.append(tokens[i])
            i += 1
    return tuple(merged)


def name_in(tokens: Tokens) -> str | None:
    r"""The name that an equation gives a value: `x`, `x_1`, `f(x)`, `f^{-1}(x)`, `y'`, `\theta`, `Area`; else None."""
    text = "".join(token.text for token in tokens)
    match = re.fullmatch(
        r"(\\[a-zA-Z]+|[a-zA-Z]{1,7})((?:_(?:\{\w{1,3}\}|\w))?(?:\^\{-1\})?'{0,2})(\([a-zA-Z]\))?", text
    )
    if match is None or (match[1].startswith("\\") and match[1][1:] not in GREEK) or match[1] in FUNCTIONS:
        return None
    if any(token.spaced for token in tokens[1:]):
        return None
    return re.sub(r"_(\w)", r"_{\1}", text)


def names_in(tokens: Tokens) -> list[str] | None:
    if len(tokens) < 5 or tokens[0].text != "(" or tokens[-1].text != ")":
        return None
    names = [name_in(part) for part in split(tokens[1:-1], {","})[0]]
    return None if None in names else [name for name in names if name]


def relation(sides: list[Tree], signs: list[str]) -> Value:
    if len(set(signs) - {"<", "<="}) and len(set(signs) - {">", ">="}) and len(signs) > 1:
        raise Unreadable("a mixed chain")
    if signs[0] in _FLIPPED:
        sides, signs = sides[::-1], [_FLIPPED[sign] for sign in signs[::-1]]
    names = set().union(*map(symbols, sides))
    if signs == ["="] and sides[1][0] == "sym" and not symbols(sides[0]):
        return Named(sides[1][1], Quantity(sides[0]))
    if len(names) == 1 and signs[0] in ("<", "<=", "!="):
        (name,) = names
        lone = ("sym", name)
        if [bool(symbols(side)) for side in sides].count(True) == 1 and lone in sides:
            place, infinite = sides.index(lone), (("const", "inf"), ("neg", ("const", "inf")))
            if signs == ["!="]:
                return complement(Ranges((Piece(None, False, None, False),), (), name), [sides[1 - place]])
            if place <= 1 and len(sides) - place <= 2:
                low = sides[place - 1] if place else None
                high = sides[place + 1] if place + 1 < len(sides) else None
                closed = [place > 0 and signs[place - 1] == "<=", place < len(signs) and signs[place] == "<="]
                low, high = (None if end in infinite else end for end in (low, high))
                return Ranges((Piece(low, closed[0], high, closed[1]),), (), name)
    links = tuple(Relation(sides[i], sign, sides[i + 1]) for i, sign in enumerate(signs))
    return links[0] if len(links) == 1 else Chain(links)
