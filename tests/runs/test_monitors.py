"""Each monitor by hand, on small texts."""

import dataclasses
import time
from types import SimpleNamespace

import numpy as np
import pytest

from stepjax.measures.repeats import is_empty, repeated_steps
from stepjax.report.filters import alarm
from stepjax.report.held_out import Heard
from stepjax.runs.monitors import has_notes, monitors, proxy_gap
from stepjax.runs.response_figures import measure
from stepjax.runs.response_records import record_of
from stepjax.runs.responses import Response, TurnsTaken
from stepjax.tasks.base import Problem, StepRating

PROBLEM = Problem("train/0", "?", "2")


def response(*steps, tokens=0, finished=True, ratings=None, correct=False):
    step_ratings = None if ratings is None else [StepRating(r, None) for r in ratings]
    return Response(PROBLEM, [1], [5] * tokens, "".join(steps), list(steps), finished, correct, step_ratings)


@pytest.mark.parametrize(
    ("steps", "exact", "near"),
    [
        ((), 0, 0),
        (("b=7+5=2", "c=2*3=6", "?6"), 0, 0),
        (("b=7+5=2", "b=7+5=2", "b=7+5=2\n"), 2, 2),
        (("b=7+5=2", "c=7+5=2"), 0, 0),  # another register
        (("b=5+0=5", "b=5-0=5"), 0, 0),  # another operator
        (("b=7+5=3", "!b=7+5=3"), 0, 1),  # taken back to the same value
        (("b=7+5=3", "!b=7+5=2"), 0, 0),  # a repair says another value
        (("b=7+5=2", "b=2"), 0, 0),
        (("She has 24 clips.", "she  has 24 clips", "SHE HAS 24 CLIPS!"), 1, 2),  # an exclamation mark is a word
        (("So she has sold 24 red clips today.", "So she has sold 24 red clips."), 0, 1),
        (("So she has sold 24 red clips today.", "So she has sold 25 red clips today."), 0, 0),
        (("24 clips and 24 more", "24 clips and more"), 0, 0),  # one number less
        (("...", "...", " "), 0, 0),  # empty steps have their own monitor
    ],
)
def test_repeated_and_nearly_repeated_steps(steps, exact, near):
    assert repeated_steps(steps) == (exact, near)


def test_hostile_steps_are_compared_in_bounded_time():
    start = time.perf_counter()
    repeated_steps([f"{'x' * 200_000} {i}" for i in range(50)])
    repeated_steps([" ".join(f"w{i * j}" for j in range(200)) + "7" for i in range(400)])
    repeated_steps(["1 a b c d" * 2_000] * 500)
    assert time.perf_counter() - start < 5


def test_empty_steps():
    assert [is_empty(s) for s in ("", " \n", "...", "<<=>>", "?", "a", "7", "é")] == [True] * 5 + [False] * 3


def test_replies_of_an_environment_are_no_steps_of_the_policy():
    turns = TurnsTaken("done", [0.0, 0.0, 1.0], replies=[1, 3])
    game = dataclasses.replace(response("8\n", "lower\n", "4\n", "lower\n", "2\n", tokens=10), turns=turns)
    found, figures = monitors([game], notes=False), measure([game])
    assert found["repeated"] == found["near_repeated"] == figures["repeated"] == 0.0
    assert found["steps"] == figures["steps"] == 3
    record = record_of(SimpleNamespace(task=SimpleNamespace(name="guess")), game, "a").to_json()
    assert record["extra"]["replies"] == [1, 3] and not alarm(Heard.of(record))
    assert alarm(Heard.of({**record, "extra": {}})), "a row that does not tell has no replies"


def test_monitors_of_a_round():
    round_of = [
        response("b=7+5=2", "b=7+5=2", "?2", tokens=20),
        response("b=7+5=2 ...", tokens=8, finished=False),
        response(tokens=1),
        response("??", "?2", tokens=6),
    ]
    found = monitors(round_of, notes=False)
    assert found == pytest.approx(
        {
            "repeated": 1 / 6,
            "near_repeated": 1 / 6,
            "empty": 2 / 7,  # "??", and the response without a step
            "steps": 6 / 4,
            "step_tokens": 35 / 6,
            "one_step": 1 / 4,
            "truncated": 1 / 4,
        }
    )
    assert all(v == 0 for v in monitors([], notes=True).values())


def test_trivial_calculations_count_where_the_task_writes_notes():
    steps = response("a <<1=1>>1 b <<2+2=4>>4", "<<5*1=5>>5", "none")
    assert monitors([steps], notes=True)["trivial"] == pytest.approx(2 / 3)
    assert "trivial" not in monitors([steps], notes=False)
    assert (
        has_notes([PROBLEM, Problem("", "", "", "1+1=<<1+1=2>>2")]) and not has_notes([PROBLEM]) and not has_notes([])
    )


def test_learned_reward_minus_exact_reward():
    # Steps of two responses end at tokens 1, 3 and 0, 2; the second one's last step was cut off.
    end = np.array([[0, 1, 0, 1], [1, 0, 1, 0]], bool)
    prm, ratings = np.zeros((2, 4, 3), np.float32), np.zeros((2, 4), np.float32)
    prm[0, 1], prm[0, 3], prm[1, 0], prm[1, 2] = (0, 0, 1), (0, 1, 0), (0.5, 0, 0.5), (0, 0, 1)
    ratings[0, 1], ratings[0, 3], ratings[1, 0], ratings[1, 2] = 1, -1, -1, -1
    pair = [response("a", "b", ratings=[1, -1]), response("a", "b", ratings=[-1, -1], finished=False)]
    believed, known = ((1 + 0.5) / 2, 0.5), ((1 + 0) / 2, 0.0)
    gaps = [b - k for b, k in zip(believed, known, strict=True)]
    assert proxy_gap(prm, ratings, end, pair) == pytest.approx(sum(gaps) / 2)
    # A model of prefixes, or of values, was to learn something else.
    ladder = Response(PROBLEM, [1], [], "", ["a", "b"], True, True, [StepRating(1, True), StepRating(-1, False)])
    assert proxy_gap(prm[:1], ratings[:1], end[:1], [ladder], "prefix") == pytest.approx(0.75 - 0.5)
    assert proxy_gap(prm[:1], ratings[:1], end[:1], [ladder], "value") == pytest.approx(0.75 - 1)
    # Nothing rates steps: whether the answer is right stands for them.
    pair = [response("a", "b", correct=True), response("a", "b", finished=False)]
    assert proxy_gap(prm, ratings * 0, end, pair) == pytest.approx(((0.75 - 1) + (0.5 - 0)) / 2)
    assert proxy_gap(prm, ratings, np.zeros_like(end), pair) == 0.0


def test_two_classes_are_bad_and_good():
    end, prm = np.array([[True]]), np.array([[[0.25, 0.75]]], np.float32)
    assert proxy_gap(prm, np.array([[1.0]]), end, [response("a", ratings=[1])]) == pytest.approx(0.75 - 1)
