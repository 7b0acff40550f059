"""Steps that cost now and pay later: rows, credit, critics, thresholds."""

import numpy as np
import pytest

from stepjax.studies.crediting import crediting
from stepjax.studies.investing import (
    CREDIT,
    LATE,
    OTHERS,
    Training,
    Tried,
    attempt,
    chance_after,
    rows_of,
    train,
)
from stepjax.studies.myopia_study import BAD, GOOD, NEUTRAL, STREAMS, formula, options_of


def mean_return(training, kind, invests, discount):
    """Mean reward of the choice, and the mean of what the late steps pay, as discounted as it is late."""
    p = (1 + (1 if invests else -1) * training.help[kind]) / 2
    late = sum(discount ** (training.wait + 1 + i) * (p * GOOD + (1 - p) * BAD) for i in range(LATE))
    return (NEUTRAL if invests else GOOD) + late


@pytest.mark.parametrize(("name", "discount"), [("response, λ = 1", 1.0), ("discount 0.9", 0.9)])
@pytest.mark.parametrize("wait", [0, 4])
def test_the_formula_is_where_both_choices_earn_the_same(name, discount, wait):
    training = Training(wait=wait, kinds=4000)
    differences = [
        mean_return(training, kind, True, discount) - mean_return(training, kind, False, discount)
        for kind in range(4000)
    ]
    worth = np.array(differences) > 0
    assert formula(name, wait) == pytest.approx(1 - worth.mean(), abs=1 / 4000)


def test_formulas_of_the_others():
    assert formula("step", 0) == formula("turn", 4) == formula("discount 0.9", 12) == 1.0
    assert formula("turn", 0) == formula("turn", 1) == formula("response, λ = 0", 12) == 0.375
    assert formula("step, outcome on top", 4) == 0.75 and formula("outcome", 0) == 0.0


def test_responses_have_the_chances_that_they_should():
    training = Training(wait=1, kinds=4, samples=20_000)
    tried = attempt(training, np.full(4, 0.3), np.random.default_rng(0))
    assert tried.invests.mean() == pytest.approx(0.3, abs=0.01) and tried.right[:, 0].all()
    assert tried.right[:, 1].mean() == pytest.approx(OTHERS, abs=0.01)
    for kind, help_ in enumerate(training.help):
        for invests, sign in ((True, 1), (False, -1)):
            of = tried.right[(tried.kind == kind) & (tried.invests == invests)][:, -LATE:]
            assert of.mean() == pytest.approx((1 + sign * help_) / 2, abs=0.02)
    after = chance_after(training, tried)
    for step in range(3):
        assert after[:, step].mean() == pytest.approx(tried.correct.mean(), abs=0.02)
    np.testing.assert_array_equal(after[:, -1], tried.correct)


@pytest.mark.parametrize("name", ["turn", "discount 0.9"])
def test_credit_of_the_choice_is_what_its_horizon_sees(name):
    training = Training(wait=3, kinds=2)
    rng = np.random.default_rng(1)
    options = options_of(name)
    tried = attempt(training, np.full(2, 0.5), rng)
    values = rng.normal(size=(32, 6, 1))
    _, returns = (np.asarray(x) for x in crediting(options, *CREDIT)(*rows_of(training, tried, values)))
    paid = np.where(tried.right, GOOD, BAD)
    paid[tried.invests, 0] = NEUTRAL
    factors = np.array([1.0, 1, 1, 1, 0, 0]) if name == "turn" else 0.9 ** np.arange(6)
    expected = paid @ factors
    np.testing.assert_allclose(returns[:, 0, 1], expected, atol=1e-5)


def test_an_investment_is_right_and_neutral_and_a_turn_has_four_steps():
    training = Training(wait=3, kinds=2, samples=1)
    tried = Tried(np.array([0, 1]), np.array([True, False]), np.ones((2, 6), bool))
    rows, host = rows_of(training, tried, np.zeros((2, 6, 1)))
    assert np.asarray(host["rating"])[:, [1, 2, 3, 4, 6, 7]].tolist() == [[0, 1, 1, 1, 1, 1], [1] * 6]
    assert np.flatnonzero(np.asarray(rows.env_tokens)[0]).tolist() == [5]
    assert np.flatnonzero(np.asarray(rows.turn_end)[0]).tolist() == [4]
    tried = Tried(np.array([0]), np.array([True]), np.array([[1, 0, 1, 0, 0, 1]], bool))
    assert tried.so_far.tolist() == [[1, 1, 1, 1, 1, 0]] and not tried.correct[0]


@pytest.mark.slow
def test_a_short_training_separates_step_and_response():
    training = Training(wait=1, kinds=8, rounds=40)
    for name, invests in (("step", False), ("response, λ = 1", True)):
        chances = train(crediting(options_of(name), *CREDIT), len(STREAMS[name]), training, np.random.default_rng(2))
        assert chances.shape == (41, 8) and (chances[0] == 0.5).all()
        assert (chances[-1, -1] > 0.9) == invests and chances[-1, 0] < 0.1
