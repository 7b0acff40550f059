"""RegisterChain's exact verifier, case by case: ratings of steps, grades of answers, any text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tasks.register_programs import KINDS, rated, table

from stepjax.errors import UserError
from stepjax.tasks.base import Problem
from stepjax.tasks.register_chain import (
    RegisterChain,
    RegisterChainConfig,
    rate_steps,
)
from stepjax.tasks.register_chain.program import parse_program

CHAIN = "a=7;b=a+5;c=b*3;?c\n"  # b = 2, c = 6
WIDE = "a=7;b=a+5;d=b-4;e=9;c=b*3;?c\n"  # d = 8 is a dead end, e a spare literal


@pytest.mark.parametrize(
    ("response", "globally", "locally"),
    [
        # what a right response looks like
        ("b=7+5=2\nc=2*3=6\n?6", "derive+ derive+ answer+", None),
        # an error; what rests on it follows locally and is false globally
        ("b=7+5=3\nc=3*3=9\n?9", "derive- derive- answer-", "derive- derive+ answer+"),
        # the right operand again, against what was stated: true, yet it does not follow
        ("b=7+5=3\nc=2*3=6\n?6", "derive- derive+ answer+", "derive- derive- answer+"),
        # wrong operand, operator or register
        ("b=8+5=3", "derive-", None),
        ("b=7-5=2", "derive-", None),
        ("b=7+5=12", "derive-", None),
        ("x=7+5=2", "derive-", None),
        ("a=2+5=7", "derive-", None),
        # repair at once, later, too early, of a right value, of a wrong value by another wrong one
        ("b=7+5=3\n!b=7+5=2\nc=2*3=6\n?6", "derive- repair+ derive+ answer+", None),
        (
            "b=7+5=3\nc=3*3=9\n!b=7+5=2\n!c=2*3=6\n?6",
            "derive- derive- repair+ repair+ answer+",
            "derive- derive+ repair+ repair+ answer+",
        ),
        ("!b=7+5=2", "repair-", None),
        ("b=7+5=2\n!b=7+5=2", "derive+ repair0", None),
        ("b=7+5=2\n!b=7+5=3", "derive+ repair-", None),
        ("b=7+5=3\n!b=7+5=4", "derive- repair-", None),
        # redoing a wrong value without taking it back is new too; saying the same again is not
        ("b=7+5=3\nb=7+5=2\nb=7+5=2", "derive- derive+ repeat0", None),
        # answers: the real one from a false chain rests on nothing; so do an early one and a second thought
        ("b=7+5=2\nc=2*3=5\n?5", "derive+ derive- answer-", "derive+ derive- answer+"),
        ("b=7+5=2\nc=2*3=5\n?6", "derive+ derive- leap-", None),
        ("b=7+5=2\n?6", "derive+ leap-", None),
        ("?6", "leap-", None),
        # leaps: a value without its operation; an operand that was never stated; and what may still be built on them
        ("b=2\nc=2*3=6\n?6", "leap- derive+ answer+", None),
        ("c=2*3=6\n?6", "leap- leap-", None),
        ("b=2\nb=7+5=2", "leap- derive+", None),
        ("b=7+5=2\nb=4", "derive+ leap-", None),
        ("z=4", "leap-", None),
        # restating: literals at any time, derived registers once stated, as they were stated
        ("a=7\nb=7+5=2\nb=2\na=7", "restate0 derive+ restate0 restate0", None),
        ("a=8\nb=7+5=2", "restate- derive+", None),
        ("b=7+5=3\nb=3", "derive- restate-", "derive- restate0"),
        # what is no step, and what comes too late
        ("", "malformed-", None),
        ("so b is 2\nb=7+5=2", "malformed- derive+", None),
        ("b = 7+5=2\nb=7+5=02\nB=7+5=2\n?\n??2\n!c", " ".join(["malformed-"] * 6), None),
        ("b=7+5=2\nc=2*3=6\n?6\n?6\nb=2\n", "derive+ derive+ answer+ after- after- after-", None),
        ("  b=7+5=2 \r\nc=2*3=6\t\n?6  ", "derive+ derive+ answer+", None),
    ],
)
def test_verifier_case_by_case(response, globally, locally):
    assert table(CHAIN, response) == globally
    assert table(CHAIN, response, "local") == (locally or globally)


def test_dead_ends_and_spare_registers_are_neutral():
    assert table(WIDE, "e=9\nb=7+5=2\nd=2-4=8\nd=2-4=8\nd=8") == "restate0 derive+ unneeded0 repeat0 restate0"
    assert table(WIDE, "b=7+5=2\nd=2-4=7\n!d=2-4=8") == "derive+ unneeded- repair+"
    assert table(WIDE, "d=2-4=8") == "leap-"


def test_both_notions_are_told_whatever_the_rating():
    for rating in ("global", "local"):
        wrong, dependent, leap, answer = rated(CHAIN, "b=7+5=3\nc=3*3=9\nb=2\n?9", rating)
        assert (wrong.local, wrong.true) == (False, False)
        assert (dependent.local, dependent.true) == (True, False)
        assert (leap.local, leap.true, leap.correct) == (False, True, False)
        assert (answer.local, answer.true) == (True, False)
        assert answer.correct == (rating == "local")


def test_two_digit_values():
    prompt = "a=57;b=a*99;c=a-b;?c\n"
    assert [j.rating for j in rated(prompt, "b=57*99=43\nc=57-43=14\n?14", modulus=100)] == [1, 1, 1]
    assert [j.rating for j in rated(prompt, "b=57*99=43\nc=57-43=114\n?14", modulus=100)] == [1, -1, -1]


near_steps = st.one_of(st.text(), st.text("bc=7+5*32!?\n ", max_size=12), st.sampled_from(["b=7+5=2", "c=2*3=6", "?6"]))


@settings(max_examples=200, deadline=None)
@given(st.lists(near_steps, max_size=8), st.sampled_from(["global", "local"]))
def test_the_verifier_takes_any_text(steps, rating):
    task = RegisterChain(RegisterChainConfig(rating=rating))
    problem = Problem("x", CHAIN, "6")
    step_ratings = task.rate_steps(problem, steps)
    assert len(step_ratings) == len(steps)
    for step_rating in step_ratings:
        assert step_rating.kind in KINDS
        assert step_rating.correct == (step_rating.rating >= 0)
    # Later steps never change the step_rating of earlier ones.
    assert task.rate_steps(problem, steps[:3]) == step_ratings[:3]
    assert isinstance(task.grade(problem, "\n".join(steps)), bool)


def test_hostile_text():
    for text in (
        "9" * 100_000,
        "b=" + "9" * 10_000,
        "b=٧+٥=٢",
        "?²",
        "\x00",
        "b=7+5=2\nc=2*3=6",
        "\ud800",
        "🦜" * 5000,
    ):
        (step_rating,) = rate_steps(parse_program(CHAIN, 10), [text])
        assert step_rating.kind == "malformed" and step_rating.rating == -1 and step_rating.correct is False


@pytest.mark.parametrize(
    ("response", "right"),
    [
        ("?6", True),
        ("c=2*3=6\n?6\n\n", True),
        ("c=2*3=6", False),
        ("?06", False),
        ("?16", False),
        ("?5\n?6", False),
        ("?6\n?6", False),
        ("?6\nc=2*3=6", False),
        ("b=7+5=2?6", False),
        ("", False),
    ],
)
def test_grade(response, right):
    assert RegisterChain().grade(Problem("x", CHAIN, "6"), response) is right


def test_a_prompt_of_another_modulus_is_refused():
    with pytest.raises(UserError, match="below 10"):
        RegisterChain().rate_steps(Problem("x", "a=57;b=a+1;?b\n", "58"), ["b=57+1=58"])
