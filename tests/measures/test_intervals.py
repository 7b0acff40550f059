"""Wilson's interval, against the score test that it inverts, and published ones."""

import math
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepjax.measures.intervals import wilson, z_of


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
