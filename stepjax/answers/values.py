"""What an answer may be: typed values, compared only with values that mean the same kind of thing."""

from collections.abc import Sequence
from dataclasses import dataclass

from stepjax.answers.expression_trees import Tree


@dataclass(frozen=True)
class Quantity:
    """An expression and its unit.

    Attributes:
      tree: the expression.
      unit: words in a fixed spelling (`units.read_unit`), "%" of a percentage; empty: none is written.
    """

    tree: Tree
    unit: tuple[str, ...] = ()


@dataclass(frozen=True)
class Words:
    """A text or a name, letter by letter: never a product."""

    text: str


@dataclass(frozen=True)
class Choice:
    """A letter of a multiple choice, and what stands behind it."""

    letter: str
    rest: "Value | None" = None


@dataclass(frozen=True)
class Group:
    """Items in brackets: a point, an interval, a vector; a set where `opening` is a brace."""

    opening: str
    closing: str
    items: "tuple[Value, ...]"


@dataclass(frozen=True)
class Several:
    """Several answers, in any order."""

    items: "tuple[Value, ...]"


@dataclass(frozen=True)
class Piece:
    """An interval; None for an end at infinity."""

    low: Tree | None
    low_closed: bool
    high: Tree | None
    high_closed: bool


@dataclass(frozen=True)
class Ranges:
    """A set of real numbers: a union of intervals, without some points; `name` of the variable that is in it."""

    pieces: tuple[Piece, ...]
    without: tuple[Tree, ...] = ()
    name: str = ""


@dataclass(frozen=True)
class Named:
    """`name = value`."""

    name: str
    value: "Value"


@dataclass(frozen=True)
class Relation:
    """`left sign right`, sign one of = < <= != ≡; chains are several of them."""

    left: Tree
    sign: str
    right: Tree


@dataclass(frozen=True)
class Chain:
    """Relations that hold at once, in the order of a chain that ascends."""

    links: tuple[Relation, ...]


@dataclass(frozen=True)
class Modular:
    """A residue class, or a congruence."""

    value: "Value"
    modulus: Tree


@dataclass(frozen=True)
class Ratio:
    """`3:2`, or a time of day with its half as the unit."""

    items: "tuple[Value, ...]"
    unit: tuple[str, ...] = ()


@dataclass(frozen=True)
class Matrix:
    """A matrix or a vector in its environment."""

    rows: "tuple[tuple[Value, ...], ...]"


@dataclass(frozen=True)
class Opaque:
    """What is not understood: only its spelling can be compared."""

    text: str


Value = (
    Quantity | Words | Choice | Group | Several | Ranges | Named | Relation | Chain | Modular | Ratio | Matrix | Opaque
)


def several(items: Sequence[Value]) -> Value:
    """The one value, or several."""
    return items[0] if len(items) == 1 else Several(tuple(items))
