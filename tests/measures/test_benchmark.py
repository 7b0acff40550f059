"""avg@n, pass@k and maj@k against all subsets, counted one by one, and their intervals."""

from fractions import Fraction
from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepjax.measures.benchmark import benchmark_report, figure
from stepjax.measures.intervals import wilson
from stepjax.measures.majority import MOST_RESPONSES, majority_at
from stepjax.measures.selection import permutations, vote

RESPONSES = st.integers(1, 7).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(-1, 3), min_size=n, max_size=n), st.lists(st.booleans(), min_size=n, max_size=n)
    )
)


def voted(groups: list[int], worth: list[int], subset: tuple[int, ...]) -> Fraction:
    """What the vote of a subset is worth: of tied answers each as often; an answer is worth the mean over the pool."""
    votes = {g: sum(groups[i] == g for i in subset) for g in {groups[i] for i in subset} - {-1}}
    tied = [g for g, n in votes.items() if n == max(votes.values())]
    worths = [Fraction(sum(w for g, w in zip(groups, worth, strict=True) if g == t), groups.count(t)) for t in tied]
    return sum(worths, Fraction()) / max(len(tied), 1)


@settings(max_examples=60, deadline=None)
@given(RESPONSES)
def test_a_majority_is_the_mean_over_all_subsets(responses):
    groups, right = responses
    worth = [int(r) for r in right]
    sizes = range(1, len(groups) + 1)
    found = majority_at(np.array(groups), np.array(worth), sizes)
    for size, value in zip(sizes, found, strict=True):
        subsets = list(combinations(range(len(groups)), size))
        expected = sum((voted(groups, worth, s) for s in subsets), Fraction()) / len(subsets)
        assert value == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.slow
def test_a_majority_of_many_is_that_of_random_orders():
    rng = np.random.default_rng(0)
    groups = rng.choice(np.arange(-1, 6), 48)
    worth = (groups == 2).astype(float)
    sizes = [1, 4, 16, 48]
    drawn = vote(groups, worth, sizes, permutations(48, 20_000, rng)).mean(0)
    np.testing.assert_allclose(majority_at(groups, worth, sizes), drawn, atol=0.012)
    many = majority_at(np.zeros(MOST_RESPONSES, int), np.ones(MOST_RESPONSES), [1, MOST_RESPONSES // 2])
    np.testing.assert_allclose(many, 1.0)
    with pytest.raises(ValueError, match="at most"):
        majority_at(np.zeros(MOST_RESPONSES + 1, int), np.ones(MOST_RESPONSES + 1), [1])
    with pytest.raises(ValueError, match="a subset of 3 cannot"):
        majority_at(np.zeros(2, int), np.ones(2), [3])


def test_pass_at_k_is_the_unbiased_estimator():
    right = np.array([[1, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 0]], bool)
    report = benchmark_report(right, np.where(right, 0, 1))
    assert report["sizes"] == [1, 2, 4, 6] and (report["problems"], report["samples"]) == (3, 6)
    for k, found in zip(report["sizes"], report["pass"], strict=True):
        expected = np.mean([1 - comb(6 - int(c), k) / comb(6, k) for c in right.sum(1)])
        assert found["value"] == pytest.approx(expected)
        assert found["low"] <= found["value"] <= found["high"]
    assert report["avg"]["value"] == pytest.approx(report["pass"][0]["value"]) == pytest.approx(right.mean())
    assert report["maj"][0]["value"] == pytest.approx(right.mean()), "a vote of one is that one"
    assert report["maj"][-1]["value"] == pytest.approx(1 / 3), "2 of 6 lose, 5 of 6 win"
    assert [f["interval"] for f in report["pass"]] == ["bootstrap", "bootstrap", "bootstrap", "wilson"]


def test_one_response_each_has_wilsons_interval():
    right = np.array([[True]] * 3 + [[False]] * 7)
    report = benchmark_report(right, np.zeros((10, 1), int))
    low, high = wilson(3, 10)
    assert report["avg"] == {"value": 0.3, "low": low, "high": high, "interval": "wilson"}
    assert report["pass"] == report["maj"] == [report["avg"]]


def test_intervals_cluster_by_problem():
    """Eight copies of a response tell as much as one; eight independent ones tell more."""
    rng = np.random.default_rng(1)
    one = rng.random((200, 1)) < 0.5
    copies = figure(np.repeat(one, 8, axis=1).mean(1))
    independent = figure((rng.random((200, 8)) < 0.5).mean(1))
    assert copies == figure(one.mean(1))
    assert (independent["high"] - independent["low"]) * 2 < copies["high"] - copies["low"]
    assert independent["interval"] == "bootstrap"
    nothing = figure(np.zeros(30))
    assert nothing["low"] == 0 and nothing["high"] == pytest.approx(wilson(0, 30)[1]), "no width would be a claim"
    assert figure(np.full(4, 0.5))["interval"] == "wilson"
