"""Every row of the registry of estimators tells the truth: critic, comparison, belonging to a step, sums, options."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from stepjax.config import StreamOptions
from stepjax.credit.estimators import ESTIMATORS, WITH_CRITIC
from stepjax.credit.streams import Stream, combine

B, T, G = 4, 7, 2
RNG = np.random.default_rng(0)
REWARDS, VALUES = RNG.standard_normal((2, 1, B, T)).astype(np.float32)
MASK = np.ones((B, T), bool)
END = np.arange(T) % 3 == 2
END = np.broadcast_to(END | (np.arange(T) == T - 1), (B, T))
SCORED = END[None]
FIRST = np.zeros((1, B), np.float32)


def credited(estimator: str, *, group: int = G, lam: float = 0.5, critic: bool = True, **arrays) -> np.ndarray:
    """Advantages of one stream with the horizon "step", float32[B, T]; `arrays`: other rewards, values or first."""
    run = compiled(Stream("mine", "step", lam=lam, estimator=estimator, critic=critic), group)
    return np.asarray(run(**{"rewards": REWARDS, "values": VALUES, "first": FIRST, **arrays}))


@functools.cache
def compiled(stream: Stream, group: int):
    @jax.jit
    def run(rewards, values, first):
        return combine([stream], rewards, values, MASK, END, scored=SCORED, first=first, group=group).advantages[0]

    return run


def test_the_config_names_every_estimator():
    field = next(f for f in dataclasses.fields(StreamOptions) if f.name == "estimator")
    assert field.metadata["choices"] == tuple(ESTIMATORS)
    assert all(f"{name} (" in field.metadata["doc"] for name in ESTIMATORS)
    assert field.default in ESTIMATORS


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_critic_and_lambda_matter_where_the_row_says(estimator):
    plain, row = credited(estimator), ESTIMATORS[estimator]
    assert (credited(estimator, values=VALUES + RNG.random((1, B, T), np.float32)) != plain).any() == row.critic
    assert (credited(estimator, lam=0.75) != plain).any() == row.critic
    assert (estimator in WITH_CRITIC) == row.critic == Stream("mine", estimator=estimator).critic


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_rows_are_compared_where_the_row_says(estimator):
    rewards = REWARDS.copy()
    rewards[0, 0] *= 3
    others = (credited(estimator, rewards=rewards) != credited(estimator))[1:].any(axis=1)
    assert others.tolist() == [ESTIMATORS[estimator].compares, False, False]
    if ESTIMATORS[estimator].compares:
        with pytest.raises(ValueError, match="needs a group of 2"):
            credited(estimator, group=1)
    else:
        np.testing.assert_array_equal(credited(estimator, group=1), credited(estimator))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_what_belongs_to_a_step_has_no_other_horizon(estimator):
    for changes in ({"horizon": "response"}, {"horizon": 0.5}, {"gamma": 0.9}):
        if ESTIMATORS[estimator].of_a_step:
            with pytest.raises(ValueError, match="credits a step's tokens with that step alone"):
                Stream("mine", estimator=estimator, **changes)
        else:
            Stream("mine", estimator=estimator, **changes)
    if ESTIMATORS[estimator].of_a_step:
        found = credited(estimator)
        assert (found[:, [0, 3]] == found[:, [2, 5]]).all(), "a step's tokens are credited alike"


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_sums_of_rewards_are_sums_of_rewards(estimator):
    found = credited(estimator, critic=False, lam=1.0)
    togo, after = np.zeros((B, T)), np.zeros(B)
    for t in reversed(range(T)):
        after = REWARDS[0, :, t] + np.where(END[:, t], 0.0, after)
        togo[:, t] = after
    assert np.allclose(found, togo, atol=1e-5) == ESTIMATORS[estimator].sums_rewards


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_options_matter_where_the_row_says(estimator):
    matters = (credited(estimator, first=FIRST + 0.5) != credited(estimator)).any()
    assert matters == ("first" in ESTIMATORS[estimator].options)
    assert set(ESTIMATORS[estimator].options) <= {f.name for f in dataclasses.fields(StreamOptions)}
