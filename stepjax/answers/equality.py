"""Whether two expressions are equal: exactly where both are rational, else to many digits, relative to their size.

Expressions with variables are compared at fixed points of large numerators and denominators, where no two different
polynomials of their degrees agree. An irrational number is worked out with more digits than the exact numbers in it
have, and again with twice as many: two numbers are equal where their difference shrinks with the precision.
"""

import os
import threading
from collections.abc import Callable
from fractions import Fraction

from stepjax.answers.evaluation import UNDEFINED, WHOLE, Doubt, Evaluation, Number
from stepjax.answers.expression_trees import Tree, count, symbols

# mpmath's tables of constants may be written by one thread at a time, and are whole where the process is forked.
_lock = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
MOST_SCALED_BITS = 2048  # of an exact number in an irrational one: the precision grows with it
_LEAST_PRECISION = 200  # bits


def equal(a: Tree, b: Tree) -> bool:
    """Whether two expressions have the same value wherever one is looked up; False where that is in doubt."""
    if a == b:
        return True
    with _lock:
        return _same_everywhere(lambda at: (at.value(a), at.value(b)), a, b)


def proportional(a: Tree, b: Tree, *, positive: bool) -> bool:
    """Whether a = c·b with a constant c that is not 0 (or is positive): whether `a = 0` and `b = 0` say the same.

    Constants do not: `x+1 = x+2` and `x+1 = x+3` have the same solutions, none, and are two equations.
    """
    if not symbols(a) or not symbols(b):
        return False
    with _lock:
        return _proportional(a, b, positive)


def _proportional(a: Tree, b: Tree, positive: bool) -> bool:
    try:
        first = Evaluation(_LEAST_PRECISION)
        one, other = first.value(a), first.value(b)
        if one == 0 or other == 0:
            return False
        ratio = first.inexact(one) / first.inexact(other)
        if positive and (isinstance(ratio, first.mp.mpc) or not ratio > 0):
            return False
    except UNDEFINED:
        return False

    def crosswise(at: Evaluation) -> tuple[Number, Number]:
        origin = Evaluation(at.precision)
        a_0, b_0, a_k, b_k = origin.value(a), origin.value(b), at.value(a), at.value(b)
        at.bits = max(at.bits, origin.bits)
        return at.product(a_0, b_k), at.product(a_k, b_0)

    def still(at: Evaluation) -> tuple[Number, Number]:
        return Evaluation(at.precision).value(a), at.value(a)

    return _same_everywhere(crosswise, a, b) and not _same_everywhere(still, a, a)


def real(tree: Tree) -> Number:
    """The value of an expression without variables, an mpf of 200 bits.

    Raises:
      Doubt: where it is not real, or in doubt.
    """
    if symbols(tree):
        raise Doubt("it has variables")
    at = Evaluation(_LEAST_PRECISION)
    try:
        with _lock:
            value = at.inexact(at.value(tree))
    except UNDEFINED as error:
        raise Doubt(str(error)) from error
    if isinstance(value, at.mp.mpc):
        raise Doubt("it is complex")
    return value


def _same_everywhere(pair: Callable[[Evaluation], tuple[Number, Number]], a: Tree, b: Tree) -> bool:
    """At points where the first three variables have all combinations of signs and, where a floor is taken, at whole
    numbers, too."""
    names = tuple(sorted(symbols(a) | symbols(b)))
    points = list(range(2 ** min(len(names), 3) if len(names) != 1 else 4))
    if any(count(tree, operation) for tree in (a, b) for operation in ("floor", "ceil")):
        points.append(WHOLE)
    try:
        return all(_same(pair, point, names) for point in points)
    except UNDEFINED:
        return False


def _same(pair: Callable[[Evaluation], tuple[Number, Number]], point: int, names: tuple[str, ...]) -> bool:
    """Whether two numbers are equal: exact ones exactly, others by whether their difference shrinks with precision."""
    at = Evaluation(_LEAST_PRECISION, point, names)
    x, y = pair(at)
    if isinstance(x, Fraction) and isinstance(y, Fraction):
        return bool(x == y)
    if at.bits > MOST_SCALED_BITS:
        raise Doubt("an exact number of that length in an irrational one")
    precision = _LEAST_PRECISION + 4 * at.bits
    sizes = []
    for bits_ in (precision, 2 * precision):
        at = Evaluation(bits_, point, names)
        x, y = map(at.inexact, pair(at))
        sizes.append((at.size(x - y), max(at.size(x), at.size(y))))
        if sizes[0][0] > max(-precision / 4, sizes[0][1] - precision / 4):
            return False
    (before, _), (after, scale) = sizes
    nothing = float("-inf")
    return after == nothing or after <= (before if before > nothing else scale - precision) - precision / 2
