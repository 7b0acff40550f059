"""A baseline for each turn's reward pays or fines the turns themselves: an exact world, both forms against theory.

A response has up to K turns. After each of the first K − 1 it goes on with probability q = σ(θ), which is the policy's
one choice, or stops. Turn k earns r_k. So J = Σ_k P_k·r_k with P_k = q^(k−1), and dJ/dθ = Σ_k P'_k·r_k.

A mean m_k subtracted from each turn's reward (`when=score`) is, for a group of two, P_k·r_k on average, whatever the
response does later. Its gradient is that of Σ_k P_k·(r_k − P_k·r_k) with the last factor held constant: each turn more
costs what is expected of it. With `among=index` and `when=return` the baseline of a turn depends on no choice of the
response itself, and the mean gradient is dJ/dθ [verl issue 7244].
"""

import functools
import itertools

import jax
import numpy as np
import pytest

from stepjax.credit.streams import Stream, combine

K, Q = 4, 0.6
REWARDS = np.array([1.0, 0.5, 2.0, 1.0])
ALIVE = Q ** np.arange(K)  # P_k
SLOPE = np.arange(K) * ALIVE * (1 - Q)  # dP_k/dθ = (k − 1)·q^(k−2)·q(1 − q)
CHANCE = np.append(ALIVE[:-1] * (1 - Q), ALIVE[-1])  # of 1 … K turns
FORMS = {
    "score": Stream("turns", "response", unit="turn", baseline="others", among="index", when="score"),
    "return": Stream("turns", "response", unit="turn", baseline="others", among="index", when="return"),
    "rloo": Stream("turns", "response", estimator="rloo"),
    "none": Stream("turns", "response", estimator="return"),
}


@functools.cache
def moments(form):
    """Mean and variance of the gradient by θ of one response, by the advantages of all pairs of responses."""
    pairs = np.array(list(itertools.product(range(1, K + 1), repeat=2)))
    turns = pairs.reshape(-1)
    mask = np.arange(K) < turns[:, None]
    rewards = np.where(mask, REWARDS, 0.0)[None].astype(np.float32)
    run = jax.jit(lambda r, m: combine([FORMS[form]], r, r, m, m, turn_end=m, group=2).advantages[0])
    advantages = np.asarray(run(rewards, mask), np.float64)
    went_on = np.arange(K) < turns[:, None] - 1
    score = np.where(went_on, 1 - Q, -Q)  # d log π / dθ of going on after a turn, or of stopping there
    score = np.where(mask & (np.arange(K) < K - 1), score, 0.0)
    gradient = np.sum(score * advantages, axis=1).reshape(-1, 2)[:, 0]
    chance = CHANCE[pairs[:, 0] - 1] * CHANCE[pairs[:, 1] - 1]
    mean = np.sum(chance * gradient)
    return mean, np.sum(chance * (gradient - mean) ** 2)


def test_a_mean_of_each_score_is_biased_by_what_an_extra_turn_is_expected_to_earn():
    mean, _ = moments("score")
    assert mean == pytest.approx(np.sum(SLOPE * (REWARDS - ALIVE * REWARDS)), abs=1e-5)
    assert mean < 0.7 * np.sum(SLOPE * REWARDS)


@pytest.mark.parametrize("form", ["return", "rloo", "none"])
def test_a_mean_of_the_returns_of_the_same_index_is_not(form):
    mean, _ = moments(form)
    assert mean == pytest.approx(np.sum(SLOPE * REWARDS), abs=1e-5)


def test_the_unbiased_baseline_lowers_the_variance():
    assert moments("return")[1] < 0.5 * moments("none")[1]


def test_where_all_turns_earn_the_same_the_biased_form_learns_nothing():
    """Rewards of 1 a turn, means of 1 a turn: no credit at all, though each extra turn earns 1."""
    mask = np.array([[True, True], [True, True], [True, True], [True, False]])
    rewards = np.where(mask, 1.0, 0.0)[None].astype(np.float32)
    streams = [FORMS["score"], FORMS["return"]]
    run = jax.jit(lambda r, m: combine(streams, r, r, m, m, turn_end=m, group=4).advantages)
    found = dict(zip(("score", "return"), np.asarray(run(rewards.repeat(2, 0), mask)), strict=True))
    assert not found["score"].any()
    np.testing.assert_allclose(found["return"], [[1 / 3, 1 / 3], [1 / 3, 1 / 3], [1 / 3, 1 / 3], [-1, 0]], atol=1e-6)
