"""Confusion, F1, κ and AUC against scikit-learn; calibration against a loop."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepjax.measures import (
    accuracy,
    auc,
    calibration_error,
    cohen_kappa,
    confusion_matrix,
    f1_scores,
    macro_f1,
    reliability,
)

pairs = st.integers(1, 4).flatmap(
    lambda c: st.tuples(
        st.just(c), st.lists(st.tuples(st.integers(0, c - 1), st.integers(0, c - 1)), min_size=1, max_size=30)
    )
)


@settings(deadline=None, max_examples=150)
@given(pairs)
def test_classification_is_scikit_learns(case):
    metrics = pytest.importorskip("sklearn.metrics")
    classes, rows = case
    truth, predicted = np.array(rows).T
    found = confusion_matrix(truth, predicted, classes)
    assert (found == metrics.confusion_matrix(truth, predicted, labels=range(classes))).all()
    assert accuracy(found) == pytest.approx(metrics.accuracy_score(truth, predicted))
    assert macro_f1(found) == pytest.approx(metrics.f1_score(truth, predicted, average="macro"))
    seen = np.union1d(truth, predicted)
    of_each = f1_scores(found)
    assert of_each[seen] == pytest.approx(metrics.f1_score(truth, predicted, average=None, labels=seen))
    assert np.isnan(np.delete(of_each, seen)).all(), "a class that is nowhere has no F1"
    if len(seen) == 1:
        assert np.isnan(cohen_kappa(found)), "where there is one class, chance agrees always"
    else:
        assert cohen_kappa(found) == pytest.approx(metrics.cohen_kappa_score(truth, predicted), abs=1e-12)


def test_nothing_counted_has_no_figure():
    nothing = confusion_matrix(np.zeros(0, int), np.zeros(0, int), 3)
    assert nothing.tolist() == [[0] * 3] * 3
    assert all(np.isnan(figure(nothing)) for figure in (accuracy, macro_f1, cohen_kappa))


def test_agreement_by_hand():
    # [Cohen 1960]: p_o = .7, margins (.5, .5) and (.6, .4): p_e = .5, κ = .4
    assert cohen_kappa(np.array([[20, 5], [10, 15]])) == pytest.approx(0.4)
    assert cohen_kappa(np.array([[10, 0], [0, 10]])) == 1.0
    assert cohen_kappa(np.array([[5, 5], [5, 5]])) == 0.0


@pytest.mark.parametrize(
    ("truth", "predicted"), [([0, 3], [0, 1]), ([0, -1], [0, 1]), ([0.0, 1.0], [0, 1]), ([0], [0, 1]), ([[0]], [[0]])]
)
def test_what_is_no_class_is_refused(truth, predicted):
    with pytest.raises(ValueError, match="class"):
        confusion_matrix(np.array(truth), np.array(predicted), 3)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=40))
def test_auc_is_scikit_learns_and_the_share_of_ordered_pairs(rows):
    metrics = pytest.importorskip("sklearn.metrics")
    scores, truth = np.array([s for s, _ in rows], float), np.array([t for _, t in rows])
    found = auc(scores, truth)
    if truth.all() or not truth.any():
        assert np.isnan(found)
        return
    assert found == pytest.approx(metrics.roc_auc_score(truth, scores))
    wins = [float(a > b) + 0.5 * (a == b) for a in scores[truth] for b in scores[~truth]]
    assert found == pytest.approx(np.mean(wins))
    assert auc(-scores, truth) == pytest.approx(1 - found)
    assert auc(np.exp(scores), truth) == pytest.approx(found), "only the order counts"


def test_auc_refuses_what_has_no_order():
    with pytest.raises(ValueError, match="NaN"):
        auc(np.array([0.1, np.nan]), np.array([True, False]))
    with pytest.raises(ValueError, match="scores"):
        auc(np.array([0.1]), np.array([True, False]))
    assert np.isnan(auc(np.zeros(0), np.zeros(0, bool)))
    assert auc(np.array([-np.inf, np.inf]), np.array([False, True])) == 1.0


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=40), st.integers(1, 12))
def test_calibration_is_a_loops(rows, bins):
    p, y = np.array([p for p, _ in rows]), np.array([float(y) for _, y in rows])
    found = reliability(p, y, bins=bins)
    assert found.count.sum() == len(rows)
    error = 0.0
    for i in range(bins):
        inside = [k for k in range(len(p)) if min(int(p[k] * bins), bins - 1) == i]
        assert found.count[i] == len(inside)
        if inside:
            assert found.predicted[i] == pytest.approx(np.mean(p[inside]))
            assert found.observed[i] == pytest.approx(np.mean(y[inside]))
            error += len(inside) / len(p) * abs(np.mean(p[inside]) - np.mean(y[inside]))
        else:
            assert np.isnan(found.predicted[i]) and np.isnan(found.observed[i])
    if rows:
        assert calibration_error(found) == pytest.approx(error)
    else:
        assert np.isnan(calibration_error(found))


def test_a_soft_outcome_is_calibrated_where_it_is_met():
    assert calibration_error(reliability(np.array([0.25, 0.75, 1.0]), np.array([0.25, 0.75, 1.0]))) == 0.0
    assert calibration_error(reliability(np.full(10, 0.8), np.arange(10) < 6)) == pytest.approx(0.2)


@pytest.mark.parametrize("bad", [-0.1, 1.1, np.nan])
def test_calibration_refuses_what_is_no_probability(bad):
    for p, y in (([bad], [0.0]), ([0.5], [bad])):
        with pytest.raises(ValueError, match="must lie"):
            reliability(np.array(p), np.array(y))
