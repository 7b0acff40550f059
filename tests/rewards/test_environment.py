"""The signal `environment`: each turn's reward on the policy's last token of it, credited by any unit and horizon."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from stepjax.config import StreamOptions
from stepjax.credit.streams import combine
from stepjax.learners.ppo import make_streams
from stepjax.rewards.reward_streams import reads_environment, scored, stream_rewards
from stepjax.steps import Steps
from stepjax.trajectory import Trajectory, Turns

# Two tokens, one of the environment's, one token, and one that a truncation cut off; then three turns, all rated.
WRITTEN = np.array([[0, 0, 0, 1, 0, 1, 0], [0, 0, 1, 0, 1, 0, 0]], bool)
RATED = np.array([[0, 0, 1, 0, 1, 0, 0], [0, 1, 0, 1, 0, 0, 1]], bool)
REWARDS = np.where(RATED, np.arange(1.0, 8.0), 0.0).astype(np.float32)


def rows() -> Trajectory:
    response = np.array([[0, 1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1, 1]], bool)
    mask = response & ~WRITTEN
    ends = mask & np.pad(WRITTEN, ((0, 0), (0, 1)))[:, 1:]
    ends[:, -1] = True
    return Trajectory(
        tokens=jnp.zeros((2, 7), jnp.int32),
        prompt_length=jnp.array([1, 1]),
        response_length=jnp.array([6, 6]),
        finished=jnp.array([False, True]),
        logprobs=jnp.zeros((2, 7)),
        prompt_width=1,
        env_tokens=jnp.asarray(WRITTEN),
        turns=Turns(jnp.asarray(REWARDS), jnp.asarray(RATED), jnp.zeros(2, jnp.int32)),
        steps=Steps(jnp.where(mask, 0, -1), jnp.asarray(ends)),
    )


def credited(**options) -> np.ndarray:
    given = {"turn": StreamOptions(signal="environment", whiten=False, critic=False, **options)}
    trajectory, streams = rows(), make_streams(given)
    rewards = stream_rewards(trajectory, {}, given).swapaxes(0, 1)
    assert trajectory.steps is not None
    found = combine(
        streams, rewards, jnp.zeros_like(rewards), trajectory.mask, trajectory.steps.end,
        bootstrap=jnp.zeros(rewards.shape[:2]), turn_end=trajectory.turn_end, finished=trajectory.finished,
        scored=jnp.stack([scored(trajectory, o) for o in given.values()]), logprobs=trajectory.logprobs, group=2,
    )  # fmt: skip
    return np.asarray(found.advantages[0])


def test_where_it_pays():
    options = StreamOptions(signal="environment")
    given = {"turn": options, "other": StreamOptions(signal="outcome")}
    assert reads_environment(given) == ["turn"]
    np.testing.assert_array_equal(scored(rows(), options), RATED)
    np.testing.assert_array_equal(stream_rewards(rows(), {}, {"turn": options})[:, 0], REWARDS)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # Each turn by its own reward alone: the last turn of the first row has none.
        ({"horizon": "turn"}, [[0, 3, 3, 0, 5, 0, 0], [0, 2, 0, 4, 0, 7, 7]]),
        ({"horizon": "response"}, [[0, 8, 8, 0, 5, 0, 0], [0, 13, 0, 11, 0, 7, 7]]),
        # γ = 1/2 between turns.
        (
            {"horizon": "response", "unit": "turn", "gamma": 0.5},
            [[0, 5.5, 5.5, 0, 5, 0, 0], [0, 2 + 2 + 1.75, 0, 4 + 3.5, 0, 7, 7]],
        ),
    ],
)
def test_credit_by_turns(options, expected):
    np.testing.assert_allclose(credited(estimator="return", **options), expected)


def test_returns_against_those_of_the_same_turn():
    found = credited(baseline="others", among="index", when="return", unit="turn", horizon="response")
    # Turn 1: 8 and 13; turn 2: 5 and 11; turn 3: unknown (it was cut off) and 7, which has no other.
    np.testing.assert_allclose(found[0, [1, 2, 4]], [-5, -5, -6])
    np.testing.assert_allclose(found[1, [1, 3]], [5, 6])


def test_an_environment_that_is_not_there_is_said():
    without = dataclasses.replace(rows(), turns=None)
    with pytest.raises(AssertionError):
        scored(without, StreamOptions(signal="environment"))
