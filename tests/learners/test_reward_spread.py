"""How much rewards differ, over a round and within each problem's responses."""

import numpy as np

from stepjax.learners.reward_spread import reward_spread

NAMES = ("outcome", "process")


def test_the_spread_of_a_round_and_flat_groups():
    rng = np.random.default_rng(0)
    rewards = rng.normal(size=(12, 2, 5)).astype(np.float32)
    rewards[:, 0] = 0
    rewards[[1, 2, 9], 0, 4] = 1  # of three responses each: a group with two right ones, two with none, one with one
    found = reward_spread(NAMES, rewards, 3)
    for i, name in enumerate(NAMES):
        np.testing.assert_allclose(found[f"reward_std/{name}"], rewards[:, i].sum(-1).std(), rtol=1e-5)
    assert float(found["reward_flat/outcome"]) == 0.5 and float(found["reward_flat/process"]) == 0.0


def test_the_place_of_a_reward_and_rounding_make_no_difference():
    rewards = np.zeros((4, 1, 3), np.float32)
    rewards[0, 0, 0] = rewards[1, 0, 2] = 100.0
    rewards[1, 0, 0] = 1e-5  # 100.00001 and 100
    found = reward_spread(("a",), rewards, 2)
    assert float(found["reward_flat/a"]) == 1.0 and float(found["reward_std/a"]) > 1


def test_single_responses_have_no_groups():
    assert list(reward_spread(("a",), np.ones((4, 1, 3), np.float32), 1)) == ["reward_std/a"]
