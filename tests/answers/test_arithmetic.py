"""The evaluator of calculator notes, against fractions computed from generated trees."""

import contextlib
import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepjax.answers.arithmetic import MOST_CHARACTERS, ExpressionError, changes_nothing, evaluate


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("48/2", Fraction(24)),
        ("(60+72+42)/3", Fraction(58)),
        ("2*20*.01", Fraction(2, 5)),
        ("-36+13+-15+-10", Fraction(-48)),
        ("+30+46", Fraction(76)),
        ("3*+6", Fraction(18)),
        ("100+(100*(10/100))", Fraction(110)),
        ("10-4-3", Fraction(3)),
        ("10/3", Fraction(10, 3)),
        ("2/3*3", Fraction(2)),
        ("560//10", Fraction(56)),
        ("7//2", Fraction(3)),
        ("50*20%", Fraction(10)),
        ("(10+10)%", Fraction(1, 5)),
        ("1,234,567+1", Fraction(1234568)),
        (" 1 +\t2 ", Fraction(3)),
        ("007", Fraction(7)),
        ("-(-(2))", Fraction(2)),
        ("-2*-3", Fraction(6)),
    ],
)
def test_values_are_exact(text, value):
    assert evaluate(text) == value


@pytest.mark.parametrize(
    "text", ["5", "-5", "(5)", "5*1", "1*5", "3+0", "0+3", "3-0", "(7-0)/1", "0*8", "0/3", "5//1*1"]
)
def test_expressions_that_work_nothing_out(text):
    assert changes_nothing(text)


@pytest.mark.parametrize("text", ["2+2", "5-5", "0-5", "6/3", "4/2", "2*2", "20%", "1*5+1", "3+4*0+1", "1+1"])
def test_expressions_that_work_something_out(text):
    assert not changes_nothing(text)


@pytest.mark.parametrize("text", ["", "x", "1/0", "1+"])
def test_what_has_no_value_is_neither(text):
    with pytest.raises(ExpressionError):
        changes_nothing(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "()", "(", ")", "1+", "*2", "1 2", "1..2", "1.", ".", "1,2", "1,2345", "1234,567", "2(3)", "(2)(3)"),
        *("2**3", "2^3", "x", "2x", "3x4", "2×3", "1e5", "0x10", "1_000", "٣", "²", "$5", "1=1", "10%3", "5%%", "1/0"),
        *("5//0", "5/(2-2)", "1;2", "__import__('os')", "1\x00", "((1)", "(1))", "+", "-", "%", "5 5 +"),
    ],
)
def test_anything_else_is_refused(text):
    with pytest.raises(ExpressionError):
        evaluate(text)


@pytest.mark.parametrize(
    "text",
    [
        "9**9**9**9",
        "9" * 100_000,
        "(" * 100_000,
        "(" * 120 + "1" + ")" * 120,
        "-" * 200 + "1",
        "1" + "+1" * 100_000,
        "9*" * 127 + "9",
        "1/" * 127 + "3",
        ".1*" * 80 + "1",
    ],
)
def test_hostile_text_ends_at_once(text):
    started = time.perf_counter()
    with contextlib.suppress(ExpressionError):
        assert len(str(evaluate(text).numerator)) <= MOST_CHARACTERS
    assert time.perf_counter() - started < 0.2


def _number(parts):
    whole, decimals = parts
    text = f"{whole}.{decimals}" if decimals else str(whole)
    return text, Fraction(text)


def _join(operands):
    (left, x), operator, (right, y) = operands
    if x is None or y is None or (operator in ("/", "//") and not y):
        value = None
    else:
        value = {
            "+": lambda: x + y,
            "-": lambda: x - y,
            "*": lambda: x * y,
            "/": lambda: x / y,
            "//": lambda: Fraction(x // y),
        }[operator]()
    return f"({left}{operator}{right})", value


numbers = st.tuples(st.integers(0, 10_000), st.sampled_from(["", "5", "25", "01"])).map(_number)
trees = st.recursive(
    numbers,
    lambda inner: (
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "//"]), inner).map(_join)
        | inner.map(lambda pair: (f"-{pair[0]}", None if pair[1] is None else -pair[1]))
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=300)
@given(trees)
def test_agrees_with_fractions(tree):
    text, value = tree
    if len(text) > MOST_CHARACTERS or value is None:
        with pytest.raises(ExpressionError):
            evaluate(text)
    else:
        assert evaluate(text) == value


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from([*"+-*/", "//"]), min_size=1, max_size=8), st.data())
def test_operators_bind_as_in_python(operators, data):
    values = data.draw(st.lists(st.integers(1, 99), min_size=len(operators) + 1, max_size=len(operators) + 1))
    text = str(values[0]) + "".join(f"{operator}{value}" for operator, value in zip(operators, values[1:], strict=True))
    python = str(f"Fraction({values[0]})") + "".join(
        f"{operator}Fraction({value})" for operator, value in zip(operators, values[1:], strict=True)
    )
    assert evaluate(text) == eval(python, {"Fraction": Fraction})


@settings(deadline=None, max_examples=300)
@given(st.text(alphabet="0123456789+-*/().,% x=", max_size=40) | st.text(max_size=40))
def test_any_text_has_a_value_or_is_refused(text):
    with contextlib.suppress(ExpressionError):
        assert isinstance(evaluate(text), Fraction)
