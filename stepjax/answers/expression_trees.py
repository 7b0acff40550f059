"""Trees of expressions: nested tuples, an operation's name and its operands."""

from typing import Any

Tree = tuple[Any, ...]
"""("num", Fraction), ("sym", name), ("const", name), ("mixed", number, fraction), an operation of two operands ("add",
"mul", "div", "pow", "root", "binom") or of one ("neg", "pm", "abs", "fact", "deg", "floor", "ceil", "ln", "sin", …)."""

FUNCTIONS = {
    *("sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh"),
    *("ln", "log", "lg", "exp"),
}
_LETTERS = """
    alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau upsilon
    phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega ell
"""
GREEK = set(_LETTERS.split())
"""Commands of letters that are variables (so not \\pi)."""

UNKNOWN_BASE = "base of log"
"""The variable that stands for the base of a logarithm without one."""


def is_literal(tree: Tree) -> bool:
    """Whether the tree is a number, a fraction or a mixed number, perhaps with a sign: nothing to be worked out."""
    if tree[0] == "neg":
        tree = tree[1]
    if tree[0] == "div":
        return tree[1][0] == "num" and is_literal(tree[2]) and tree[2][0] != "div"
    return tree[0] in ("num", "mixed")


def symbols(tree: Tree) -> set[str]:
    """The names of its variables."""
    if tree[0] == "sym":
        return {tree[1]}
    return set().union(*(symbols(part) for part in tree[1:] if isinstance(part, tuple)))


def count(tree: Tree, operation: str) -> int:
    """How often an operation occurs."""
    return (tree[0] == operation) + sum(count(part, operation) for part in tree[1:] if isinstance(part, tuple))


def with_sign(tree: Tree, sign: str) -> Tree:
    r"""The tree with "pos" or "neg" for its `\pm`."""
    parts = tuple(with_sign(part, sign) if isinstance(part, tuple) else part for part in tree[1:])
    if tree[0] == "pm":
        return tuple(parts[0]) if sign == "pos" else ("neg", *parts)
    return (tree[0], *parts)
