"""The process reward model as a classifier: which steps it is asked about, and the usual figures."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
from models.tiny import scorer, scorer_params

from stepjax.config import Config
from stepjax.parallel import make_mesh
from stepjax.runs.classifier import StepClassifier, classification_report
from stepjax.runs.responses import Response
from stepjax.tasks.base import Problem, StepRating


def probabilities_of(predicted) -> np.ndarray:
    """Distributions whose likeliest class is the given one, the others not equally likely."""
    return np.array([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.3, 0.2, 0.5]], np.float32)[predicted]


def test_report_by_hand():
    labels, predicted = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 2]), np.array([0, 0, 1, 1, 2, 2, 2, 2, 0, 1])
    found = classification_report(labels, probabilities_of(predicted))
    f1 = {"bad": 2 * 2 / (3 + 3), "neutral": 2 * 1 / (2 + 3), "good": 2 * 3 / (5 + 4)}
    assert found["confusion"] == [[2, 1, 0], [0, 1, 1], [1, 1, 3]]
    assert found["f1"] == pytest.approx(f1)
    assert found["macro_f1"] == pytest.approx(sum(f1.values()) / 3)
    assert found["accuracy"] == pytest.approx(0.6)
    assert found["steps"] == 10


def test_report_against_precision_and_recall():
    rng = np.random.default_rng(0)
    labels, probabilities = rng.integers(0, 3, 200), rng.dirichlet([1, 1, 1], 200)
    predicted = [max(range(3), key=list(p).__getitem__) for p in probabilities]
    found = classification_report(labels, probabilities)
    for number, name in enumerate(("bad", "neutral", "good")):
        both = sum(a == b == number for a, b in zip(labels, predicted, strict=True))
        precision, recall = both / predicted.count(number), both / list(labels).count(number)
        assert found["f1"][name] == pytest.approx(2 * precision * recall / (precision + recall))
    assert found["accuracy"] == pytest.approx(np.mean(labels == predicted))


def test_a_class_that_is_missing_is_not_hidden():
    found = classification_report(np.array([0, 2]), probabilities_of([0, 2]))
    assert found["f1"] == {"bad": 1.0, "neutral": 0.0, "good": 1.0}
    assert found["macro_f1"] == pytest.approx(2 / 3) and found["accuracy"] == 1.0


def test_a_model_of_two_classes_is_no_worse_for_the_third():
    found = classification_report(np.array([0, 2, 2]), probabilities_of([0, 2, 0]), classes=2)
    assert found["f1"] == pytest.approx({"bad": 2 / 3, "neutral": 0.0, "good": 2 / 3})
    assert found["macro_f1"] == pytest.approx(2 / 3)
    told = classification_report(np.array([0, 1, 2]), probabilities_of([0, 2, 2]), classes=2)
    assert told["macro_f1"] == pytest.approx((1 + 0 + 2 / 3) / 3), "a neutral label counts"


def test_a_report_of_nothing():
    found = classification_report(np.zeros(0, np.int32), np.zeros((0, 3), np.float32))
    assert (found["macro_f1"], found["accuracy"], found["steps"]) == (0.0, 0.0, 0)


def rated(prompt: list[int], tokens: list[int], ratings: list[int] | None, *, finished: bool = True) -> Response:
    step_ratings = None if ratings is None else [StepRating(r, None) for r in ratings]
    steps = [str(i) for i in range(len(ratings or []))]
    return Response(Problem("test/0", "", ""), prompt, tokens, "", steps, finished, False, step_ratings)


def split_host(tokens):
    """Steps that end with the token 9."""
    ends = np.array(tokens) == 9
    ends[-1] = True
    return (np.cumsum(ends) - ends).astype(np.int32), ends


def test_every_rated_step_is_classified_at_its_last_token():
    responses = [
        rated([4, 5], [6, 9, 7, 8, 9], [1, -1]),
        rated([4], [9, 6, 6], [0, 1], finished=False),  # its last step was cut off
        rated([5, 5, 5], [8], [-1]),
        rated([4], [7, 7], [], finished=True),  # nothing to rate
        rated([4], [3, 9], [1]),
    ]
    run = SimpleNamespace(
        config=Config(), prm=scorer(), mesh=make_mesh(1, 1, 1), splitter=SimpleNamespace(split_host=split_host)
    )
    labels, probabilities = StepClassifier(run, rows=4, width=9)(scorer_params(), responses)
    assert labels.tolist() == [2, 0, 1, 0, 2]

    @jax.jit
    def alone(tokens):
        positions = np.arange(8, dtype=np.int32)[None]
        return jax.nn.softmax(scorer().bind(scorer_params())(tokens, positions, np.ones((1, 8), np.int32)))

    wanted = []
    for row, column in ((0, 3), (0, 6), (1, 1), (2, 3), (4, 2)):
        tokens = [*responses[row].prompt, *responses[row].tokens]
        wanted.append(np.asarray(alone(np.array([tokens + [0] * (8 - len(tokens))], np.int32)))[0, column])
    np.testing.assert_allclose(probabilities, wanted, atol=1e-5)


def test_a_response_that_is_too_wide_is_counted_and_told():
    responses = [rated([4], [6, 9], [1]), rated([4, 5], [9] * 8, [0] * 8), rated([4], [7, 9, 7], [-1, 1])]
    run = SimpleNamespace(
        config=Config(), prm=scorer(), mesh=make_mesh(1, 1, 1), splitter=SimpleNamespace(split_host=split_host)
    )
    classifier = StepClassifier(run, rows=2, width=9)
    labels, probabilities = classifier(scorer_params(), responses)
    assert classifier.left_out == 1 and labels.tolist() == [2, 0, 2]
    assert classifier.told_left_out() == [
        "1 response was wider than prm.row_tokens=9 with the prompt and not read by the process reward model"
    ]
    first, none, last = classifier.by_response(scorer_params(), responses)
    assert none is None and classifier.left_out == 1
    np.testing.assert_array_equal(np.concatenate([first, last]), probabilities)
    classifier(scorer_params(), responses[:1])
    assert classifier.left_out == 0 and classifier.told_left_out() == []


def test_every_step_of_an_unrated_response_has_probabilities():
    run = SimpleNamespace(
        config=Config(), prm=scorer(), mesh=make_mesh(1, 1, 1), splitter=SimpleNamespace(split_host=split_host)
    )
    response = rated([4], [6, 9, 3], None, finished=False)
    (found,) = StepClassifier(run, rows=2, width=9).by_response(scorer_params(), [response])
    assert found.shape == (2, 3)


def test_no_response_is_no_step():
    run = SimpleNamespace(
        config=Config(), prm=scorer(), mesh=make_mesh(1, 1, 1), splitter=SimpleNamespace(split_host=split_host)
    )
    labels, probabilities = StepClassifier(run, rows=4, width=9)(scorer_params(), [])
    assert labels.shape == (0,) and probabilities.shape == (0, 3)
