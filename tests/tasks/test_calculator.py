"""The calculator: what it answers, and that it never answers what it should not."""

import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepjax.tasks import check_calculations
from stepjax.tasks.calculator import Calculator, written


@pytest.mark.parametrize(
    "text, reply",
    [
        ("She has <<48/2=", "24>>"),
        ("first\n<<1/5=", "0.2>>"),
        ("<<10/3=", "3.33>>"),
        ("<<1/300=", "0.0033>>"),
        ("<<-2-3=", "-5>>"),
        ("<<20%*50=", "10>>"),
        ("48/2=", None),  # no open note
        ("<<48/2=24>> so x=", None),  # closed
        ("<<48/2=24=", None),  # already answered
        ("<<48/\n2=", None),  # a note stands in one line
        ("<<x+1=", None),
        ("<<1/0=", None),
        ("<<=", None),
        ("<<999999999*9999999=", None),  # too long an answer
    ],
)
def test_replies(text, reply):
    assert Calculator().reply(text) == reply


@given(st.integers(-9999, 9999), st.integers(1, 9999))
def test_every_reply_makes_a_note_that_holds(numerator, denominator):
    expression = f"{numerator}/{denominator}"
    reply = Calculator().reply(f"<<{expression}=")
    assert reply is not None
    assert check_calculations(f"<<{expression}={reply}") == 1


def test_values_are_written_as_people_write_them():
    assert [written(Fraction(n, d)) for n, d in ((24, 1), (-7, 2), (1, 8), (-1, 3))] == ["24", "-3.5", "0.125", "-0.33"]


@pytest.mark.parametrize("text", ["<<" * 100_000 + "1=", "<<" + "(" * 100_000 + "=", "<<9" + "9" * 100_000 + "*9="])
def test_hostile_text_ends_at_once(text):
    start = time.perf_counter()
    assert Calculator().reply(text) in (None, "1>>")
    assert time.perf_counter() - start < 1.0
