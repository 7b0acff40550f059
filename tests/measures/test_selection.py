"""Best-of-N, pass@N and votes against loops over all subsets; intervals by what they must contain."""

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepjax.measures import selection

pools = st.lists(
    st.tuples(st.sampled_from([0.0, 0.2, 0.5, 1.0]), st.booleans(), st.integers(-1, 2)), min_size=1, max_size=6
)


def mean_over_subsets(count, size, worth_of):
    return np.mean([worth_of(subset) for subset in combinations(range(count), size)])


def best_by_loop(scores, worth, subset):
    top = max(scores[i] for i in subset)
    return np.mean([worth[i] for i in subset if scores[i] == top])


def vote_by_loop(groups, worth, subset, weights):
    votes = {}
    for i in subset:
        if groups[i] >= 0:
            votes[groups[i]] = votes.get(groups[i], 0.0) + weights[i]
    if not votes:
        return 0.0
    winners = [g for g, v in votes.items() if v >= max(votes.values()) * (1 - 1e-9)]
    value = {g: np.mean([w for w, h in zip(worth, groups, strict=True) if h == g]) for g in winners}
    return np.mean([value[g] for g in winners])


@settings(deadline=None, max_examples=80)
@given(pools)
def test_best_of_n_and_pass_at_n_are_means_over_all_subsets(pool):
    scores, right = np.array([s for s, _, _ in pool]), np.array([float(r) for _, r, _ in pool])
    sizes = list(range(1, len(pool) + 1))
    found, passed = selection.best_of(scores, right, sizes), selection.pass_at(right, sizes)
    for k, size in enumerate(sizes):
        assert found[k] == pytest.approx(mean_over_subsets(len(pool), size, lambda s: best_by_loop(scores, right, s)))
        assert passed[k] == pytest.approx(mean_over_subsets(len(pool), size, lambda s: max(right[i] for i in s)))
    assert found[0] == pytest.approx(right.mean())
    assert (np.diff(passed) >= -1e-12).all() and (found <= passed + 1e-12).all()


@settings(deadline=None, max_examples=60)
@given(pools, st.booleans())
def test_votes_are_a_loops_on_every_order(pool, weighted):
    scores, right, groups = (np.array(x) for x in zip(*pool, strict=True))
    weights = scores if weighted else np.ones(len(pool))
    orders = np.array(list(permutations(range(len(pool))))[:: max(1, len(pool) ** 2)])
    sizes = list(range(1, len(pool) + 1))
    found = selection.vote(groups, right, sizes, orders, scores if weighted else None)
    best = selection.resampled_best(scores, right, sizes, orders)
    for r, order in enumerate(orders):
        for k, size in enumerate(sizes):
            drawn = list(order[:size])
            assert found[r, k] == pytest.approx(vote_by_loop(groups, right, drawn, weights))
            assert best[r, k] == pytest.approx(best_by_loop(scores, right, drawn))


def test_resampling_comes_to_the_exact_mean():
    rng = np.random.default_rng(0)
    scores, right = rng.integers(0, 5, 16) / 5, rng.random(16) < 0.4
    sizes = selection.subset_sizes(16)
    assert sizes == [1, 2, 4, 8, 16]
    drawn = selection.resampled_best(scores, right, sizes, selection.permutations(16, 4000, rng))
    assert drawn.mean(0) == pytest.approx(selection.best_of(scores, right, sizes), abs=0.03)
    assert drawn[:, -1].std() == 0.0, "the whole pool is one subset"


def test_equal_scores_choose_by_chance_whatever_the_order_of_the_rows():
    right = np.array([1.0, 0.0, 0.0, 0.0])
    for order in permutations(range(4)):
        assert selection.best_of(np.ones(4), right[list(order)], [1, 2, 4]) == pytest.approx([0.25] * 3)


def test_pass_at_n_in_large_pools_stays_exact():
    right = np.zeros(1000)
    right[:3] = 1
    assert selection.pass_at(right, [1, 1000]) == pytest.approx([0.003, 1.0])
    expected = 1 - np.prod([(997 - i) / (1000 - i) for i in range(256)])
    assert selection.pass_at(right, [256]) == pytest.approx([expected])


def test_a_vote_by_hand():
    groups, right = np.array([0, 0, 1, -1]), np.array([0, 0, 1, 0])
    order = np.arange(4)[None]
    assert selection.vote(groups, right, [4], order)[0, 0] == 0.0
    assert selection.vote(groups, right, [4], order, np.array([0.2, 0.2, 0.5, 9.0]))[0, 0] == 1.0
    assert selection.vote(groups, right, [4], order, np.array([0.1, 0.2, 0.3, 9.0]))[0, 0] == 0.5, "a tie"
    assert selection.vote(groups, right, [1], order[:, ::-1])[0, 0] == 0.0, "nobody voted"
    assert selection.vote(np.full(4, -1), right, [1, 4], order).tolist() == [[0.0, 0.0]]
    assert selection.vote(groups, right, [4], order, np.zeros(4))[0, 0] == 0.5, "votes of no weight tie"


def test_what_cannot_be_drawn_or_ordered_is_refused():
    with pytest.raises(ValueError, match="subset of 3"):
        selection.best_of(np.ones(2), np.ones(2), [3])
    with pytest.raises(ValueError, match="subset of 0"):
        selection.pass_at(np.ones(2), [0])
    with pytest.raises(ValueError, match="NaN"):
        selection.best_of(np.array([np.nan]), np.ones(1), [1])
    for bad in (-1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="weights"):
            selection.vote(np.zeros(1, int), np.ones(1), [1], np.zeros((1, 1), int), np.array([bad]))


def test_intervals_of_the_mean():
    rng = np.random.default_rng(0)
    values = np.stack([np.full(400, 0.3), rng.random(400) < 0.3], axis=1)
    low, high = selection.bootstrap_interval(values, rng)
    assert low[0] == pytest.approx(0.3) and high[0] == pytest.approx(0.3)
    half = 1.96 * values[:, 1].std() / 20
    assert high[1] - low[1] == pytest.approx(2 * half, rel=0.1)
    assert low[1] < values[:, 1].mean() < high[1]
    assert all(np.isnan(end).all() for end in selection.bootstrap_interval(np.zeros((0, 2)), rng))
