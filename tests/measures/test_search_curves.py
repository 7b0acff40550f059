"""Searches compared, on made-up numbers: paired intervals, the choice by difficulty, scores against truth."""

import itertools

import numpy as np
import pytest
from scipy.stats import bootstrap

from stepjax.measures.cross_fitting import cross_fitted_shares, difficulty_levels, halves
from stepjax.measures.search_curves import Pool, least_budgets, over_optimisation, paired_difference, search_report


def test_levels_are_quantiles_and_equals_share_one():
    ease = np.random.default_rng(0).permutation(np.arange(50) / 50)
    levels = difficulty_levels(ease)
    assert np.bincount(levels).tolist() == [10] * 5
    assert all(ease[levels == a].max() < ease[levels == a + 1].min() for a in range(4)), "0 is the hardest"
    assert difficulty_levels(np.array([0.0] * 30 + [1.0] * 20)).tolist() == [0] * 30 + [1] * 20
    assert difficulty_levels(ease[:20]).max() == 1 and difficulty_levels(ease[:7]).max() == 0, (
        "few problems: few levels"
    )
    assert difficulty_levels(ease, 10).max() == 9


def test_halves_are_equal_in_each_level():
    levels = np.repeat([0, 1, 2], [8, 6, 5])
    half = halves(levels, np.random.default_rng(1))
    assert [half[levels == a].sum() for a in (0, 1)] == [4, 3] and half[levels == 2].sum() in (2, 3)


def test_cross_fitting_is_what_a_plain_loop_does():
    rng = np.random.default_rng(2)
    worth, levels = rng.integers(0, 2, (3, 20)).astype(float), rng.integers(0, 3, 20)
    found = cross_fitted_shares(worth, levels, np.random.default_rng(5), splits=4)
    expected, other = np.zeros_like(worth), np.random.default_rng(5)
    for _ in range(4):
        half = halves(levels, other)
        for p in range(20):
            means = []
            for method in range(3):
                seen = [worth[method, q] for q in range(20) if levels[q] == levels[p] and half[q] != half[p]]
                means.append(sum(seen) / len(seen) if seen else 0.0)
            expected[means.index(max(means)), p] += 1 / 4
    assert found == pytest.approx(expected) and found.sum(0) == pytest.approx(1)


def test_a_problem_has_no_part_in_its_own_choice():
    rng = np.random.default_rng(3)
    worth, levels = rng.integers(0, 2, (4, 40)).astype(float), np.zeros(40, np.int64)
    before = cross_fitted_shares(worth, levels, np.random.default_rng(0))
    worth[:, 7] = 1 - worth[:, 7]
    assert (cross_fitted_shares(worth, levels, np.random.default_rng(0))[:, 7] == before[:, 7]).all()
    # So of methods that are all the same coin, none looks better than it is; chosen on the same problems, one would.
    coins = rng.integers(0, 2, (1000, 8, 40)).astype(float)
    fair = [(cross_fitted_shares(c, levels, rng, splits=2) * c).sum(0).mean() for c in coins]
    assert np.mean(fair) == pytest.approx(0.5, abs=0.01) and np.mean([c.mean(1).max() for c in coins]) > 0.58


def test_the_best_method_of_each_level_is_found():
    levels = np.repeat([0, 1], 20)
    worth = np.stack([1.0 - levels, levels + 0.0])
    assert cross_fitted_shares(worth, levels, np.random.default_rng(0)) == pytest.approx(worth)


def test_the_paired_interval_is_that_of_the_differences():
    rng = np.random.default_rng(4)
    one = rng.integers(0, 2, 60).astype(float)
    other = np.where(rng.random(60) < 0.2, 1 - one, one)
    found = paired_difference("gain", one, other, np.random.default_rng(0))

    def difference(x, y, axis):
        return np.mean(x, axis=axis) - np.mean(y, axis=axis)

    told = bootstrap((one, other), difference, paired=True, n_resamples=4000, method="percentile", rng=rng)
    assert found["gain"] == pytest.approx(one.mean() - other.mean())
    assert found["gain_low"] == pytest.approx(told.confidence_interval.low, abs=0.02)
    assert found["gain_high"] == pytest.approx(told.confidence_interval.high, abs=0.02)
    apart = np.sqrt(one.var() / 60 + other.var() / 60) * 2 * 1.96
    assert found["gain_high"] - found["gain_low"] < 0.7 * apart, "problems are paired: their spread does not count"


def test_the_least_budget_with_enough_right_answers():
    rows = [
        {"method": m, "budget": n, "prm": "learned", "right": right, "generated": 10.0 * n}
        for m, n, right in (("a", 16, 0.95), ("a", 4, 0.9), ("a", 1, 0.2), ("b", 4, 0.89), ("b", 1, 0.3))
    ]
    assert least_budgets(rows, 0.9) == {"learned": {"a": {"budget": 4, "generated": 40.0}, "b": None}}


def test_scores_against_truth_are_means_over_all_subsets():
    rng = np.random.default_rng(6)
    pool = Pool(rng.random((3, 4)), rng.integers(0, 2, (3, 4)).astype(float), 9.0)
    found = over_optimisation(pool, rng)
    assert found["sizes"] == [1, 2, 4] and found["kl"] == pytest.approx([0, np.log(2) - 1 / 2, np.log(4) - 3 / 4])
    for k, n in enumerate(found["sizes"]):
        subsets = [list(s) for s in itertools.combinations(range(4), n)]
        picked = [[(p, s[int(pool.scores[p, s].argmax())]) for s in subsets] for p in range(3)]
        flat = [place for of_problem in picked for place in of_problem]
        assert found["score"][k] == pytest.approx(np.mean([pool.scores[place] for place in flat]))
        assert found["right"][k] == pytest.approx(np.mean([pool.right[place] for place in flat]))
    # A model that likes wrong answers best: the score rises, the truth falls.
    wrong = np.array([[1.0, 0.5, 0.4, 0.3]] * 5)
    found = over_optimisation(Pool(wrong, (wrong < 1).astype(float), 1.0), rng)
    assert np.all(np.diff(found["score"]) > 0) and np.all(np.diff(found["right"]) < 0)


def test_a_report_pairs_each_search_with_the_reference():
    rng = np.random.default_rng(7)
    cells = {}
    for method, budget, prm in itertools.product(("best_of_n", "beam"), (1, 8), ("learned", "uniform")):
        right = (rng.random(40) < {1: 0.3, 8: 0.8}[budget]).astype(float)
        cells[method, budget, prm] = {"right": right, "generated": np.full(40, 10.0 * budget)}
    pools = {
        prm: Pool(rng.random((40, 8)), rng.integers(0, 2, (40, 8)).astype(float), 80.0)
        for prm in ("learned", "uniform")
    }
    found = search_report(cells, pools, reference="best_of_n", rated=["learned"])
    for row in found["cells"]:
        own = cells[row["method"], row["budget"], row["prm"]]["right"]
        assert row["right"] == own.mean() and row["right_low"] <= row["right"] <= row["right_high"]
        reference = cells["best_of_n", row["budget"], row["prm"]]["right"]
        assert ("gain" in row) == (row["method"] == "beam")
        assert row.get("gain", 0.0) == pytest.approx(own.mean() - reference.mean() if row["method"] == "beam" else 0)
    assert set(found["over"]) == {"learned"} and set(found["optimal"]) == {"learned", "uniform"}
    assert set(found["optimal"]["learned"]["by"]) == {"pass", "score"}
    assert set(found["optimal"]["uniform"]["by"]) == {"pass"}, "what scores nothing has no mean score"
    chosen = found["optimal"]["learned"]["by"]["pass"]["budgets"][0]
    assert chosen["budget"] == 1 and np.sum(chosen["single_shares"]) == pytest.approx(1)
    assert [b["budget"] for b in found["optimal"]["learned"]["by"]["pass"]["budgets"]] == [1], "8 uses all responses"
    small = {name: Pool(p.scores[:, :6], p.right[:, :6], 20.0) for name, p in pools.items()}
    assert not search_report(cells, small, reference="best_of_n", rated=[])["optimal"], (
        "three responses tell no difficulty"
    )


def test_the_choice_by_difficulty_gains_nothing_where_methods_are_equally_good():
    """Problems of very different difficulty; best-of-4 is right where one of the pool's first four responses is."""
    rng, gains = np.random.default_rng(3), []
    for trial in range(30):
        p = rng.beta(1, 15, 64)
        right = (rng.random((64, 16)) < p[:, None]).astype(float)
        cells = {}
        for method in ("best_of_n", "a", "b", "c"):
            of = right[:, :4] if method == "best_of_n" else (rng.random((64, 4)) < p[:, None])
            cells[method, 4, "exact"] = {"right": of.max(1).astype(float), "generated": np.full(64, 40.0)}
        pools = {"exact": Pool(right, right, 160.0)}
        found = search_report(cells, pools, reference="best_of_n", rated=[], seed=trial)
        gains.append(found["optimal"]["exact"]["by"]["pass"]["budgets"][0]["over_single"])
    assert abs(np.mean(gains)) < 3 * np.std(gains) / np.sqrt(len(gains))
