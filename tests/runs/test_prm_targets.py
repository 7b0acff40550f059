"""What a process reward model is trained to say: of the step, of the prefix, of the outcome."""

from types import SimpleNamespace

import numpy as np
import pytest

from stepjax.errors import UserError
from stepjax.runs.prm_labels import labelled_example, labels_of_steps
from stepjax.runs.responses import Response
from stepjax.tasks.base import Problem, StepRating

GOOD, NEUTRAL, BAD = StepRating(1, True), StepRating(0, True), StepRating(-1, False)
ENDS = np.array([False, True, True, False, True])


def run(target: str) -> SimpleNamespace:
    splitter = SimpleNamespace(split_host=lambda tokens: (np.array([0, 0, 1, 2, 2]), ENDS.copy()))
    return SimpleNamespace(
        config=SimpleNamespace(prm=SimpleNamespace(target=target)), splitter=splitter, task=SimpleNamespace(name="sums")
    )


def response(step_ratings, *, correct=True, finished=True) -> Response:
    return Response(Problem("p", "p", "1"), [1], [5, 6, 7, 8, 9], "", ["a", "b", "c"], finished, correct, step_ratings)


@pytest.mark.parametrize(
    "target, step_ratings, correct, classes",
    [
        ("step", [GOOD, BAD, NEUTRAL], True, [2, 0, 1]),
        ("prefix", [GOOD, BAD, GOOD], True, [2, 0, 0]),
        ("prefix", [NEUTRAL, GOOD, BAD], False, [2, 2, 0]),
        ("value", [BAD, BAD, BAD], True, [2, 2, 2]),
        ("value", [GOOD, GOOD, BAD], False, [0, 0, 0]),
        ("value", None, True, [2, 2, 2]),
    ],
)
def test_classes_by_target(target, step_ratings, correct, classes):
    ends, found = labels_of_steps(run(target), response(step_ratings, correct=correct))
    assert ends.tolist() == ENDS.tolist() and found == classes


@pytest.mark.parametrize("target, classes", [("step", [2, 0]), ("prefix", [2, 0]), ("value", [0, 0])])
def test_a_step_that_was_cut_off_has_no_class(target, classes):
    ends, found = labels_of_steps(run(target), response([GOOD, BAD, NEUTRAL], correct=False, finished=False))
    assert ends.tolist() == [False, True, True, False, False] and found == classes


@pytest.mark.parametrize(
    "target, step_ratings", [("step", None), ("prefix", None), ("prefix", [StepRating(1, None)] * 3)]
)
def test_without_a_verifier_only_values_can_be_learned(target, step_ratings):
    with pytest.raises(UserError, match=r"task sums: it has no step verifier.*config\.prm\.target=value"):
        labelled_example(run(target), response(step_ratings))


@pytest.mark.parametrize(
    "target, finished, targets",
    [
        ("step", True, [-2, 2, 2, 0, 1, 1]),
        ("prefix", True, [-2, 2, 2, 0, 0, 0]),
        ("value", True, [0, 0, 0, 0, 0, 0]),
        ("value", False, [0, 0, 0, 0, -1, -1]),
    ],
)
def test_every_token_can_carry_the_label_of_its_step(target, finished, targets):
    given = response([GOOD, BAD, NEUTRAL], correct=False, finished=finished)
    example = labelled_example(run(target), given, every_token=True)
    assert example.tokens.tolist() == [1, 5, 6, 7, 8, 9] and example.targets.tolist() == targets
