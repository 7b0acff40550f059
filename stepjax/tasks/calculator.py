"""A calculator for GSM8K's notes: after `<<48/2=` it writes `24>>` [Cobbe 2021]."""

import re
from fractions import Fraction

from stepjax.answers.arithmetic import ExpressionError, evaluate
from stepjax.tasks.base import Problem
from stepjax.tasks.turns import Reply

MOST_DIGITS = 12
_OPEN_NOTE = re.compile(r"<<([^<>=\n]*)=\Z")
_LONGEST_NOTE = 300  # characters looked back at; `evaluate` reads at most 256


class Calculator:
    """An environment (`stepjax.tasks.base.Environment`) that evaluates the expression of an open note.

    Exact where the value has at most six decimals, else rounded to two decimals and two significant digits or more. An
    expression that has no value, or one of over `MOST_DIGITS` digits, gets no reply: the policy goes on by itself.
    """

    call = "="

    def reply(self, text: str) -> str | None:
        note = _OPEN_NOTE.search(text[-_LONGEST_NOTE:])
        if note is None:
            return None
        try:
            value = written(evaluate(note[1]))
        except ExpressionError:
            return None
        return None if len(value) > MOST_DIGITS else f"{value}>>"


ENVIRONMENT = Calculator


class CalculatorTurns:
    """The calculator as an environment over turns (`stepjax.tasks.turns.TurnEnvironment`): every `=` ends a turn."""

    call = Calculator.call

    def __init__(self) -> None:
        self._written = ""
        self._calculator = Calculator()

    def reset(self, problem: Problem) -> str | None:
        return None

    def step(self, text: str) -> Reply:
        """A text that ends in no call is the policy's answer: nothing follows."""
        self._written = (self._written + text)[-_LONGEST_NOTE:]
        if not text.endswith(self.call):
            return Reply(done=True)
        reply = self._calculator.reply(self._written) or ""
        self._written += reply
        return Reply(reply)


TURNS = CalculatorTurns


def written(value: Fraction) -> str:
    """The value as GSM8K writes it: 24, 0.2, 3.33."""
    if value.denominator == 1:
        return str(value.numerator)
    exact = value * 10**6
    if exact.denominator == 1:
        return _decimal(int(exact), 6).rstrip("0")
    places = 2
    while abs(value) * 10**places < 10 and places < MOST_DIGITS:
        places += 1
    return _decimal(round(value * 10**places), places)


def _decimal(scaled: int, places: int) -> str:
    """scaled / 10^places with exactly that many decimals, in whole numbers throughout."""
    digits = str(abs(scaled)).rjust(places + 1, "0")
    return f"{'-' if scaled < 0 else ''}{digits[:-places]}.{digits[-places:]}"
