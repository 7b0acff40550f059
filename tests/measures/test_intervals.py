"""Wilson's interval, against the score test that it inverts, and published ones; the jackknife's, against SciPy's."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from stepjax.measures.intervals import jackknife_intervals, of_share, wilson, z_of


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
def test_its_ends_are_where_the_score_test_just_refuses(counts, confidence):
    correct, total = counts
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    low, high = wilson(correct, total, z_of(confidence))
    assert 0 <= low <= correct / total <= high <= 1
    for end in (low, high):
        if 0 < end < 1:
            assert abs(correct / total - end) == pytest.approx(z * math.sqrt(end * (1 - end) / total), rel=1e-6)
    assert (low == 0) == (correct == 0) and (high == 1) == (correct == total)


def test_nothing_is_known_without_a_sample_and_more_samples_narrow_it():
    assert wilson(0, 0, z_of(0.9)) == (0.0, 1.0)
    widths = [high - low for low, high in (wilson(n // 2, n, z_of(0.9)) for n in (2, 8, 32, 128))]
    assert widths == sorted(widths, reverse=True) and widths[-1] < 0.15
    assert wilson(8, 8, z_of(0.9))[0] == pytest.approx(8 / (8 + NormalDist().inv_cdf(0.95) ** 2))


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [  # [Newcombe 1998, table I, method 3], then the closed form z² / (n + z²) for none and all
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (1, 29, 0.0061, 0.1718),
        (0, 20, 0.0, 0.1611),
        (29, 29, 1 - 3.8416 / 32.8416, 1.0),
        (0, 1, 0.0, 3.8416 / 4.8416),
    ],
)
def test_published_intervals_of_95_percent(right, n, low, high):
    assert wilson(right, n) == pytest.approx((low, high), abs=6e-5)


def test_the_jackknife_of_a_mean_is_students_interval():
    """With as many groups as items."""
    values = np.random.default_rng(0).normal(size=15)
    low, high = jackknife_intervals(list(values), lambda some: {"mean": float(np.mean(some))})["mean"]
    told = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (low, high) == pytest.approx((told.low, told.high))


def test_the_jackknife_of_a_share_of_steps_counts_responses():
    """All steps of a response are alike here, so that 200 of five steps tell what 200 steps do, not 1,000."""
    bad = (np.random.default_rng(1).random(200) < 0.3).astype(float)
    share = {"bad": lambda some: sum(5 * x for x in some) / (5 * len(some))}
    low, high = jackknife_intervals(list(bad), lambda some: {k: f(some) for k, f in share.items()})["bad"]
    binomial = 2 * stats.t(19).ppf(0.975) * math.sqrt(bad.mean() * (1 - bad.mean()) / 200)
    assert low < bad.mean() < high and 0.6 < (high - low) / binomial < 1.5


def test_the_jackknife_leaves_out_what_it_cannot_tell():
    def figures(some):
        return {"count": float(len(some))} | ({"first": 1.0} if 0 in some else {})

    assert set(jackknife_intervals(range(50), figures)) == {"count"}
    assert jackknife_intervals([1], figures) == {}


def test_a_share_that_no_group_changes_has_wilsons_interval():
    none = jackknife_intervals([0.0] * 30, lambda some: {"mean": sum(some) / len(some)})["mean"]
    assert of_share(none, 0.0, 30) == wilson(0, 30) and wilson(0, 30)[1] > 0.1
    assert of_share((-0.1, 0.3), 0.1, 30) == (0.0, 0.3)
    assert of_share(None, 1.0, 30) == (0.0, 1.0), "one response has all there is of it"
