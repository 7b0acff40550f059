"""Intervals over seeds against scipy and against every resample there is."""

import itertools

import numpy as np
import pytest
from scipy import stats

from stepjax.measures.over_seeds import paired, summary


def every_resample(values, confidence=0.95):
    """Quantiles of the means of all n^n resamples."""
    means = [np.mean(drawn) for drawn in itertools.product(values, repeat=len(values))]
    return np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])


@pytest.mark.parametrize("values", [(1.0, 2.0, 4.0, 4.5, 9.0), (-0.3, 0.1, 0.2, 0.25), (0.0, 1.0, 1.0, 1.0)])
def test_the_bootstrap_interval_is_that_of_all_resamples(values):
    found, spread = summary(values), np.std(values)
    assert found.mean == pytest.approx(np.mean(values)) and found.count == len(values)
    np.testing.assert_allclose([found.low, found.high], every_resample(values), atol=0.06 * spread)


def test_differences_are_paired_by_seed():
    rng = np.random.default_rng(3)
    seed = rng.normal(0, 10, 5)  # what a seed does to both arms is far larger than what the arms differ by
    one, other = seed + rng.normal(1, 0.1, 5), seed + rng.normal(0, 0.1, 5)
    found = paired(dict(enumerate(one)), dict(enumerate(other)) | {7: 100.0})
    low, high = every_resample(one - other)
    np.testing.assert_allclose([found.mean, found.low, found.high], [np.mean(one - other), low, high], atol=0.02)
    students = stats.ttest_rel(one, other).confidence_interval(0.95)
    np.testing.assert_allclose([found.mean - found.student, found.mean + found.student], [students.low, students.high])
    assert found.count == 5 and found.low > 0.5


def test_few_and_missing_values():
    assert np.isnan(summary([]).mean) and summary([]).count == 0
    assert summary([2.0, float("nan")]).mean == 2.0 and np.isnan(summary([2.0]).low)
    same = summary([3.0, 3.0, 3.0])
    assert (same.mean, same.low, same.high, same.student) == (3.0, 3.0, 3.0, 0.0)
    assert summary([1.0, 2.0, 5.0]) == summary([1.0, 2.0, 5.0])
