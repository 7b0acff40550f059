"""Exact arithmetic on the expressions of calculator notes: read by a bounded parser, never executed.

  sum     = product { ("+" | "-") product }
  product = factor { ("*" | "/" | "//") factor }
  factor  = ( "-" | "+" ) factor | ( number | "(" sum ")" ) [ "%" ]
  number  = 12 | 1,234 | 0.5 | .5

There are no powers and no names, so a value has no more digits than its expression and hostile text is rejected at
once.
"""

import re
from fractions import Fraction

NUMBER = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+"
MOST_CHARACTERS = 256
MOST_NESTING = 24
_TOKEN = re.compile(rf"\s*(?:({NUMBER})|(//|[-+*/()%]))")


class ExpressionError(ValueError):
    """The text is not an expression of this grammar, is too long or nested too deeply, or divides by zero."""


def evaluate(text: str) -> Fraction:
    """The exact value of an expression such as `(60+72)/3`, `-20+10`, `2*20*.01`, `1,200-5` or `20%*50`.

    `%` divides by 100, `//` rounds down.

    Raises:
      ExpressionError: where it has no value.
    """
    return _read(text)[0]


def changes_nothing(text: str) -> bool:
    """Whether an expression is trivial: `5`, `5*1`, `3+0`, `(7-0)/1` or `0*8`; but not `20%` or `5-5`.

    Every one of its operations adds or takes away 0, multiplies by 0 or 1, or divides by 1 (or divides 0).

    Raises:
      ExpressionError: where it has no value.
    """
    return all(_idle(*operation) for operation in _read(text)[1])


def _idle(left: Fraction, operator: str, right: Fraction) -> bool:
    if operator == "+":
        return left == 0 or right == 0
    if operator == "*":
        return left in (0, 1) or right in (0, 1)
    return right == 0 if operator == "-" else operator != "%" and (right == 1 or left == 0)


def _read(text: str) -> tuple[Fraction, list[tuple[Fraction, str, Fraction]]]:
    """The value and the operations, (left, operator, right), in the order of their evaluation."""
    if len(text) > MOST_CHARACTERS:
        raise ExpressionError(f"longer than {MOST_CHARACTERS} characters")
    parser = _Parser(_tokens(text))
    value = parser.sum(0)
    if parser.peek():
        raise ExpressionError(f"unexpected {parser.peek()!r}")
    return value, parser.operations


def _tokens(text: str) -> list[str]:
    tokens, position, text = [], 0, text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ExpressionError(f"unexpected {text[position:].lstrip()[:1]!r}")
        tokens.append(match[1] or match[2])
        position = match.end()
    return tokens


class _Parser:
    def __init__(self, tokens: list[str]):
        self.tokens = tokens
        self.position = 0
        self.operations: list[tuple[Fraction, str, Fraction]] = []

    def peek(self) -> str:
        """The next token, "" at the end."""
        return self.tokens[self.position] if self.position < len(self.tokens) else ""

    def take(self) -> str:
        token = self.peek()
        self.position += 1
        return token

    def sum(self, depth: int) -> Fraction:
        value = self.product(depth)
        while self.peek() in ("+", "-"):
            operator, right = self.take(), self.product(depth)
            self.operations.append((value, operator, right))
            value = value + right if operator == "+" else value - right
        return value

    def product(self, depth: int) -> Fraction:
        value = self.factor(depth)
        while self.peek() in ("*", "/", "//"):
            operator, right = self.take(), self.factor(depth)
            self.operations.append((value, operator, right))
            if operator == "*":
                value *= right
            elif not right:
                raise ExpressionError("division by zero")
            else:
                value = value / right if operator == "/" else Fraction(value // right)
        return value

    def factor(self, depth: int) -> Fraction:
        if depth > MOST_NESTING:
            raise ExpressionError(f"nested more than {MOST_NESTING} deep")
        token = self.take()
        if token == "-":
            return -self.factor(depth + 1)
        if token == "+":
            return self.factor(depth + 1)
        if token == "(":
            value = self.sum(depth + 1)
            if self.take() != ")":
                raise ExpressionError("unclosed parenthesis")
        elif token[:1].isdigit() or token[:1] == ".":
            value = Fraction(token.replace(",", ""))
        else:
            raise ExpressionError(f"unexpected {token!r}" if token else "unexpected end")
        if self.peek() == "%":
            self.operations.append((value, self.take(), Fraction(100)))
            value /= 100
        return value
