"""The values of expressions: exact where they are rational, else to a given number of bits.

Everything is bounded by counts, not by clocks: the same verdict on every machine. A sum that swallows one of its terms,
and whatever else the precision cannot tell, is in doubt.
"""

import threading
import zlib
from fractions import Fraction
from math import comb, factorial, isqrt
from typing import Any

import mpmath

from stepjax.answers.expression_trees import UNKNOWN_BASE, Tree

MOST_EXACT_BITS = 8192
MOST_MAGNITUDE = 1_000_000  # of a power, in bits
MOST_WORK = 500_000  # operations, weighted with the bits of the irrational ones
WHOLE = -1
"""The point where all variables are whole numbers."""

UNDEFINED = (ArithmeticError, ValueError, MemoryError, RecursionError)
Number = Any
"""A Fraction, or mpmath's mpf or mpc."""


class Doubt(ArithmeticError):
    """The value is undefined, too large, or not to be told from another one."""


class _Context(threading.local):
    """mpmath keeps its precision in a context; each thread needs its own."""

    def __init__(self) -> None:
        self.mp = mpmath.MPContext()


_context = _Context()


class Evaluation:
    """The values of trees at one point with one precision."""

    def __init__(self, precision: int, point: int = 0, names: tuple[str, ...] = ()):
        """The point's number says which of the variables `names` are negative there; at point 0 none is."""
        self.mp = _context.mp
        self.mp.prec = precision
        self.precision, self.point, self.names = precision, point, names
        self.work = 0
        self.bits = 0  # of the largest exact number in an irrational one

    def value(self, tree: Tree, *, angle: bool = False) -> Number:
        """The value of a tree; `angle` where degrees are those of a trigonometric function.

        Raises:
          Doubt: where it has none, or none within the bounds.
        """
        operation = tree[0]
        if operation == "num":
            return tree[1]
        if operation == "sym":
            return self.variable(tree[1])
        if operation == "const":
            return self.constant(tree[1])
        if operation == "mixed":
            return tree[1][1] + tree[2][1][1] / tree[2][2][1]
        inner = angle or operation in ("sin", "cos", "tan", "cot", "sec", "csc")
        values = [self.value(part, angle=inner) for part in tree[1:]]
        if operation == "deg":
            return self.inexact(values[0]) * self.mp.pi / 180 if angle else values[0]
        known = self.product if operation == "mul" else getattr(self, f"_{operation}", None)
        return self.checked(known(*values) if known else self.function(operation, *values))

    def variable(self, name: str) -> Fraction:
        """A number of its own for each variable and point, between a third and four in size."""
        seed = zlib.crc32(f"{self.point} {name}".encode("utf-8", "replace"))
        if self.point == WHOLE:
            return Fraction(seed % 23 + 7)
        value = Fraction(seed % 999_983 + 100_003, 314_159 + seed % 1_009 * 2)
        if name == UNKNOWN_BASE:
            return value + 2
        negative = name in self.names and self.point >> self.names.index(name) % 3 & 1
        return -value if negative else value

    def constant(self, name: str) -> Number:
        if name == "inf":
            raise Doubt("infinity")
        return {"pi": +self.mp.pi, "e": +self.mp.e, "i": self.mp.mpc(0, 1)}[name]

    def spend(self, work: int) -> None:
        self.work += work
        if self.work > MOST_WORK:
            raise Doubt("too much work")

    def inexact(self, value: Number) -> Number:
        """An exact number as one of many digits."""
        if not isinstance(value, Fraction):
            return value
        self.bits = max(self.bits, bits(value))
        return self.mp.mpf(value.numerator) / value.denominator

    def checked(self, value: Number) -> Number:
        if isinstance(value, Fraction):
            self.spend(1 + bits(value) // 64)
            return value if bits(value) <= MOST_EXACT_BITS else self.inexact(value)
        self.spend(self.precision)
        if isinstance(value, self.mp.mpc) and value.imag == 0:
            value = value.real
        if not self.mp.isfinite(value):
            raise Doubt("not finite")
        return value

    def size(self, value: Number) -> float:
        """The magnitude in bits."""
        return float("-inf") if value == 0 else float(self.mp.mag(self.inexact(value)))

    def _add(self, a: Number, b: Number) -> Number:
        if isinstance(a, Fraction) and isinstance(b, Fraction):
            return a + b
        if a != 0 and b != 0 and abs(self.size(a) - self.size(b)) > self.precision - 20:
            raise Doubt("a term is swallowed")
        return self.inexact(a) + self.inexact(b)

    def _neg(self, a: Number) -> Number:
        return -a

    def product(self, a: Number, b: Number) -> Number:
        if isinstance(a, Fraction) and isinstance(b, Fraction):
            return a * b
        return self.inexact(a) * self.inexact(b)

    def _div(self, a: Number, b: Number) -> Number:
        if b == 0 or (self.size(b) < -self.precision // 2 and not isinstance(b, Fraction)):
            raise Doubt("division by zero")
        if isinstance(a, Fraction) and isinstance(b, Fraction):
            return a / b
        return self.inexact(a) / self.inexact(b)

    def _pow(self, a: Number, b: Number) -> Number:
        if a == 0:
            if isinstance(b, Fraction) and b > 0:
                return Fraction(0)
            raise Doubt("a power of zero")
        if isinstance(b, Fraction) and b.denominator == 1 and isinstance(a, Fraction):
            if a in (1, -1):
                return a ** (b.numerator % 2)
            if abs(b.numerator) * bits(a) <= MOST_EXACT_BITS:
                return a**b.numerator
        if isinstance(b, Fraction) and b.denominator == 2 and abs(b.numerator) == 1 and isinstance(a, Fraction):
            root = self._root(Fraction(2), a)
            return root if b > 0 else 1 / root
        size = abs(self.size(a)) + 1
        if not self.mp.mag(self.inexact(b)) < 64 or abs(complex(self.inexact(b))) * size > MOST_MAGNITUDE:
            raise Doubt("too large")
        if isinstance(b, Fraction) and b.denominator % 2 and b.denominator > 1 and self.negative(a):
            power = self.inexact(-a) ** self.inexact(b)  # the real root, as in schools
            return -power if b.numerator % 2 else power
        return self.sensitive(b) and self.inexact(a) ** self.inexact(b)

    def negative(self, value: Number) -> bool:
        return not isinstance(value, self.mp.mpc) and value < 0

    def sensitive(self, *values: Number) -> bool:
        """A function swallows an argument next to nothing as a sum does."""
        for value in values:
            if not isinstance(value, Fraction) and value != 0 and self.size(value) < -self.precision // 2:
                raise Doubt("an argument is swallowed")
        return True

    def _root(self, n: Number, a: Number) -> Number:
        if not isinstance(n, Fraction) or n.denominator != 1 or not 2 <= n <= 100:
            raise Doubt("a root of that degree")
        if isinstance(a, Fraction) and n == 2 and a >= 0:
            top, bottom = isqrt(a.numerator), isqrt(a.denominator)
            if top * top == a.numerator and bottom * bottom == a.denominator:
                return Fraction(top, bottom)
        value = self.inexact(a)
        if n % 2 and self.negative(value):
            return -self.mp.root(-value, int(n))
        return self.mp.root(value, int(n)) if value != 0 else Fraction(0)

    def _abs(self, a: Number) -> Number:
        return abs(a)

    def _fact(self, a: Number) -> Number:
        if isinstance(a, Fraction) and a.denominator == 1:
            if not 0 <= a <= 1000:
                raise Doubt("too large")
            return Fraction(factorial(int(a)))
        if isinstance(a, self.mp.mpc) or abs(a) > 1000:
            raise Doubt("too large")
        return self.mp.gamma(self.inexact(a) + 1)

    def _binom(self, n: Number, k: Number) -> Number:
        exact = isinstance(n, Fraction) and isinstance(k, Fraction)
        if exact and n.denominator == k.denominator == 1 and 0 <= k <= n <= 1000:
            return Fraction(comb(int(n), int(k)))
        if exact and k.denominator == 1 and 0 <= k <= 50:
            value = Fraction(1)
            for i in range(int(k)):
                value = value * (n - i) / (i + 1)
            return value
        raise Doubt("a binomial of that kind")

    def _floor(self, a: Number) -> Number:
        if isinstance(a, self.mp.mpc):
            raise Doubt("of a complex number")
        whole = a.__floor__() if isinstance(a, Fraction) else int(self.mp.floor(a)) if self.size(a) < 100 else None
        if whole is None or (not isinstance(a, Fraction) and min(a - whole, whole + 1 - a) < 2.0**-100):
            raise Doubt("next to a whole number")
        return Fraction(whole)

    def _ceil(self, a: Number) -> Number:
        return -self._floor(-a)

    def _ln(self, a: Number) -> Number:
        if a == 0:
            raise Doubt("the logarithm of zero")
        return Fraction(0) if a == 1 else self.sensitive(a) and self.mp.log(self.inexact(a))

    def function(self, name: str, a: Number) -> Number:
        names = {"arcsin": "asin", "arccos": "acos", "arctan": "atan"}
        if a == 0 and name in ("sin", "tan", "arcsin", "arctan", "sinh", "tanh"):
            return Fraction(0)
        self.sensitive(a)
        if self.size(a) > 4096:
            raise Doubt("too large")
        if name in ("sinh", "cosh", "tanh") and self.size(a) > 20:
            raise Doubt("too large")
        return getattr(self.mp, names.get(name, name))(self.inexact(a))


def bits(value: Fraction) -> int:
    """The length of an exact number."""
    return max(value.numerator.bit_length(), value.denominator.bit_length())
