"""Numbers and expressions with their units, and words."""

from stepjax.answers.expression_trees import FUNCTIONS, count, is_literal, with_sign
from stepjax.answers.expressions import parse
from stepjax.answers.tokens import Token, Tokens, Unreadable
from stepjax.answers.units import ABBREVIATIONS, SHORT, read_unit
from stepjax.answers.values import Named, Quantity, Value, Words


def quantity(tokens: Tokens, plain: bool) -> Value:
    """A number or an expression with its unit; else words."""
    if all(token.kind in ("text", "letters") for token in tokens) and not _is_expression(tokens):
        return words(" ".join(token.text for token in tokens))
    if _is_dated(tokens):
        return words("".join(" " * token.spaced + token.text for token in tokens))
    before: list[Token] = list(tokens)
    signs = [before.pop(0)] if before[0].text in "+-" else []
    unit: Tokens = ()
    if before and before[0].kind == "currency":
        unit = (before.pop(0),)
        if before and before[0].text in "+-" and not signs:
            signs = [before.pop(0)]
    start = _unit_start(tuple(before), plain)
    percent = start < len(before) and before[start].text == "%"
    unit += tuple(before[start + percent :])
    tree = parse((*signs, *before[:start]))
    names = read_unit(unit) if unit else ()
    if percent or names == ("percent",):
        if percent and unit:
            raise Unreadable("percent of what?")
        names = ("%",)
    if unit and not is_literal(tree) and any(t.kind == "letters" for t in unit):
        raise Unreadable("a unit or a variable?")
    return Quantity(tree, names)


def _unit_start(tokens: Tokens, plain: bool) -> int:
    """Where the number ends and its unit begins."""
    for i in range(1, len(tokens)):
        token, last = tokens[i], tokens[i - 1]
        if token.kind in ("text", "currency") or token.text == "%":
            return i - 1 if last.text == "/" and i > 1 else i
        if token.text == "^" and i + 1 < len(tokens):
            rest = "".join(t.text for t in tokens[i + 1 :]).strip("{}")
            if rest == r"\circ" and not any(t.text.lstrip("\\") in FUNCTIONS for t in tokens[:i]):
                return i
        if token.kind == "letters" and _is_unit(token, last, plain):
            return i - 1 if last.text == "/" and i > 1 else i
    return len(tokens)


def _is_unit(token: Token, last: Token, plain: bool) -> bool:
    """Whether letters begin a unit: in mathematics only well-known abbreviations and whole words do."""
    if last.kind != "number" and last.text not in ("}", "/"):
        return False
    word = token.text
    if word in FUNCTIONS or word in ("sqrt", "pi", "and", "or"):
        return False
    if plain:
        return word in SHORT or len(word) > 1
    return len(word) > 3 or word in ABBREVIATIONS or word in ("st", "nd", "rd", "th")


def _is_dated(tokens: Tokens) -> bool:
    """Whether words and numbers stand side by side: June 20."""
    first = tokens[0].text
    known = tokens[0].kind != "letters" or len(first) < 3 or first in FUNCTIONS or first == "sqrt"
    return not known and tokens[-1].spaced and all(token.kind in ("text", "letters", "number") for token in tokens)


def _is_expression(tokens: Tokens) -> bool:
    """Whether letters are a variable or a product of variables with spaces between them, and no words."""
    if any(token.kind != "letters" for token in tokens):
        return False
    return all(len(token.text) == 1 or token.text in ("pi", "inf", "infinity") for token in tokens)


def words(text: str) -> Value:
    return Words(" ".join(text.split()).strip(".!'\" "))


def both_signs(value: Value) -> list[Value]:
    r"""`a \pm b` as its two values."""
    if isinstance(value, Named):
        return [Named(value.name, part) for part in both_signs(value.value)]
    if not isinstance(value, Quantity):
        return [value]
    signs = count(value.tree, "pm")
    if signs > 1:
        raise Unreadable("two times two signs")
    return [Quantity(with_sign(value.tree, sign), value.unit) for sign in ("pos", "neg")] if signs else [value]
