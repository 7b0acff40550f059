"""Whether two values of answers are the same. Values of different kinds are not, unless one is another in short."""

from collections.abc import Sequence
from fractions import Fraction

from stepjax.answers.equality import equal, proportional
from stepjax.answers.expression_trees import Tree, symbols
from stepjax.answers.ranges import as_ranges, same_ranges
from stepjax.answers.units import compatible
from stepjax.answers.values import (
    Chain,
    Choice,
    Group,
    Matrix,
    Modular,
    Named,
    Opaque,
    Quantity,
    Ranges,
    Ratio,
    Relation,
    Several,
    Value,
    Words,
)


def same(a: Value, b: Value) -> bool:
    """Whether two values are the same; False where that is in doubt."""
    if isinstance(a, Choice) or isinstance(b, Choice):
        return _same_choice(a, b)
    if isinstance(a, Named) or isinstance(b, Named):
        return _same_named(a, b)
    for one, other in ((a, b), (b, a)):
        if isinstance(one, Ranges):
            found = as_ranges(other)
            return found is not None and same_ranges(one, found)
        if isinstance(one, Several) and isinstance(other, Group):
            return _same_listed(one, other)
    if type(a) is not type(b):
        return False
    return _SAME[type(a)](a, b)  # type: ignore[operator]


def _same_quantity(a: Quantity, b: Quantity) -> bool:
    if ("%" in a.unit) != ("%" in b.unit):
        # 50% is 0.5, and 50 where the question says that it asks for percent.
        one, other = (a, b) if "%" in a.unit else (b, a)
        if other.unit:
            return False
        return equal(one.tree, other.tree) or equal(("div", one.tree, ("num", Fraction(100))), other.tree)
    return compatible(a.unit, b.unit) and equal(a.tree, b.tree)


def _same_words(a: Words, b: Words) -> bool:
    if a.text == b.text:
        return True
    plain = all(_is_word(word) for text in (a.text, b.text) for word in text.split())
    return plain and a.text.casefold() == b.text.casefold()


def _is_word(word: str) -> bool:
    """Whether case says nothing: Even, EVEN; but Aa and AA are two genotypes, and x and X two variables."""
    if len(word) < 2 or len(set(word.casefold())) == 1:
        return False
    return word.islower() or word.isupper() or word[1:].islower()


def _same_choice(a: Value, b: Value) -> bool:
    if isinstance(a, Choice) and isinstance(b, Choice):
        return a.letter == b.letter and (a.rest is None or b.rest is None or same(a.rest, b.rest))
    one, other = (a, b) if isinstance(a, Choice) else (b, a)
    assert isinstance(one, Choice)
    if one.rest is not None:
        return same(one.rest, other)
    if isinstance(other, Named):  # C = A
        return isinstance(other.value, Choice) and other.value.letter == one.letter
    return False


def _same_named(a: Value, b: Value) -> bool:
    if isinstance(a, Named) and isinstance(b, Named):
        if a.name == b.name and same(a.value, b.value):
            return True
    elif not isinstance(a, (Relation, Chain)) and not isinstance(b, (Relation, Chain)):
        one, other = (a, b) if isinstance(a, Named) else (b, a)
        assert isinstance(one, Named)
        if isinstance(other, Ranges):
            found = as_ranges(one)
            return found is not None and same_ranges(found, other)
        return same(one.value, other)
    if any(isinstance(value, Named) and _is_solution(value) for value in (a, b)):
        return False  # an equation is not its solution
    one_relation, other_relation = _equation(a), _equation(b)
    return bool(one_relation and other_relation and _same_relation(one_relation, other_relation))


def _is_solution(value: Named) -> bool:
    return not isinstance(value.value, Quantity) or not symbols(value.value.tree)


def _equation(value: Value) -> Relation | None:
    """`y = 2x` as a relation; None where the value is no expression."""
    if isinstance(value, Relation):
        return value
    if isinstance(value, Named) and isinstance(value.value, Quantity) and not value.value.unit:
        return Relation(("sym", value.name), "=", value.value.tree)
    return None


def _same_relation(a: Relation, b: Relation) -> bool:
    if a.sign != b.sign:
        return False
    if equal(a.left, b.left) and equal(a.right, b.right):
        return True
    if a.sign == "≡":
        return False
    return proportional(_zero(a), _zero(b), positive=a.sign in ("<", "<="))


def _zero(relation: Relation) -> Tree:
    return ("add", relation.left, ("neg", relation.right))


def _same_chain(a: Chain, b: Chain) -> bool:
    return _all_same(a.links, b.links)


def _same_group(a: Group, b: Group) -> bool:
    if (a.opening, a.closing) != (b.opening, b.closing):
        return False
    if a.opening == r"\{":
        return _same_set(a.items, b.items)
    return _all_same(a.items, b.items)


def _same_listed(one: Several, other: Group) -> bool:
    r"""`1,2` is `\{1,2\}`, and `x=1, y=2` is the point `(1,2)`."""
    if other.opening == r"\{":
        return len(one.items) == len(other.items) and _same_set(one.items, other.items)
    names = [item.name for item in one.items if isinstance(item, Named)]
    if other.opening != "(" or other.closing != ")" or len(names) != len(one.items) or len(set(names)) < len(names):
        return False
    in_order = sorted((item for item in one.items if isinstance(item, Named)), key=lambda item: item.name)
    return _all_same([item.value for item in in_order], other.items)


def _all_same(a: Sequence[Value], b: Sequence[Value]) -> bool:
    return len(a) == len(b) and all(same(one, other) for one, other in zip(a, b, strict=True))


def _same_set(a: Sequence[Value], b: Sequence[Value]) -> bool:
    return all(any(same(x, y) for y in b) for x in a) and all(any(same(x, y) for x in a) for y in b)


def _same_several(a: Several, b: Several) -> bool:
    """In any order; no item of one stands for two of the other. Values of several names stand in their order."""
    if _of_several_names(a) != _of_several_names(b):
        return _all_same(a.items, b.items)
    left = list(b.items)
    for x in a.items:
        found = next((i for i, y in enumerate(left) if same(x, y)), None)
        if found is None:
            return False
        del left[found]
    return not left


def _of_several_names(value: Several) -> bool:
    """Whether each item has a name of its own (`k=1, m=2`), and they are not one unknown's roots (`x_1=1, x_2=2`)."""
    names = [item.name.partition("_")[0] for item in value.items if isinstance(item, Named)]
    return len(names) == len(value.items) and len(set(names)) > 1


def _same_modular(a: Modular, b: Modular) -> bool:
    return equal(a.modulus, b.modulus) and same(a.value, b.value)


def _same_ratio(a: Ratio, b: Ratio) -> bool:
    return compatible(a.unit, b.unit) and _all_same(a.items, b.items)


def _same_matrix(a: Matrix, b: Matrix) -> bool:
    return len(a.rows) == len(b.rows) and all(_all_same(x, y) for x, y in zip(a.rows, b.rows, strict=True))


def _same_opaque(a: Opaque, b: Opaque) -> bool:
    return bool(a.text) and a.text == b.text


_SAME = {
    Quantity: _same_quantity,
    Words: _same_words,
    Relation: _same_relation,
    Chain: _same_chain,
    Group: _same_group,
    Several: _same_several,
    Modular: _same_modular,
    Ratio: _same_ratio,
    Matrix: _same_matrix,
    Opaque: _same_opaque,
}
