"""ProcessBench's figures against loops, and the tuned threshold against all thresholds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepjax.measures import aggregate, first_below, first_errors, tune_threshold
from stepjax.measures.first_error import NONE

solutions = st.lists(
    st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=5).flatmap(
        lambda scores: st.tuples(st.just(scores), st.integers(-1, len(scores) - 1))
    ),
    min_size=1,
    max_size=12,
)


def by_loop(rows, threshold):
    hits = {True: [], False: []}
    for scores, place in rows:
        found = -1
        for k, score in enumerate(scores):
            if score < threshold:
                found = k
                break
        hits[place >= 0].append(found == place)
    return {kind: sum(h) / len(h) if h else float("nan") for kind, h in hits.items()}


@settings(deadline=None, max_examples=150)
@given(solutions, st.sampled_from([0.05, 0.25, 0.5, 0.9]))
def test_first_errors_are_a_loops(rows, threshold):
    truth = np.array([place for _, place in rows])
    found = first_errors(np.array([first_below(np.array(s), threshold) for s, _ in rows]), truth)
    shares = by_loop(rows, threshold)
    assert found.error == pytest.approx(shares[True], nan_ok=True)
    assert found.correct == pytest.approx(shares[False], nan_ok=True)
    assert (found.wrong, found.right) == ((truth >= 0).sum(), (truth < 0).sum())
    a, b = found.error, found.correct
    expected = float("nan") if np.isnan(a + b) else 0.0 if a + b == 0 else 2 / (1 / a + 1 / b) if a and b else 0.0
    assert found.f1 == pytest.approx(expected, nan_ok=True)


@settings(deadline=None, max_examples=200)
@given(solutions)
def test_no_threshold_is_better_than_the_tuned_one(rows):
    truth = np.array([place for _, place in rows])
    scores = [np.array(s) for s, _ in rows]

    def f1(threshold):
        return first_errors(np.array([first_below(s, threshold) for s in scores]), truth).f1

    tuned = tune_threshold(scores, truth)
    if (truth >= 0).all() or (truth < 0).all():
        assert tuned == 0.5
    else:
        assert f1(tuned) == pytest.approx(max(f1(t) for t in np.linspace(-0.05, 1.05, 111)))


def test_a_threshold_lies_amid_the_longest_best_stretch():
    assert tune_threshold([np.array([0.9, 0.2]), np.array([0.8, 0.8])], np.array([1, -1])) == pytest.approx(0.5)


def test_a_score_that_is_not_a_number_is_refused():
    for call in (lambda s: first_below(s, 0.5), lambda s: tune_threshold([s, s], np.array([0, -1]))):
        with pytest.raises(ValueError, match="NaN"):
            call(np.array([0.4, np.nan]))
    with pytest.raises(ValueError, match="finite"):
        aggregate(np.array([np.inf]), "min")
    with pytest.raises(ValueError, match="places"):
        first_errors(np.array([1]), np.array([1, 2]))


def test_one_solution_and_none():
    only = first_errors(np.array([2]), np.array([2]))
    assert (only.error, only.wrong, only.right) == (1.0, 1, 0)
    assert np.isnan(only.correct) and np.isnan(only.f1)
    assert np.isnan(first_errors(np.zeros(0, int), np.zeros(0, int)).error)
    assert first_below(np.zeros(0), 0.5) == NONE
    assert first_below(np.array([0.5, 0.4]), 0.5) == 1, "the threshold itself is not below it"


@pytest.mark.parametrize(("how", "expected"), [("min", 0.25), ("product", 0.125), ("last", 0.5), ("mean", 0.375)])
def test_aggregators(how, expected):
    assert aggregate(np.array([0.25, 0.5]), how) == expected
    assert aggregate(np.zeros(0), how) == 0.0
