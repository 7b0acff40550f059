"""Signals on a hand-made trajectory: a finished row whose step numbers skip one, and truncated ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stepjax.config import StreamOptions
from stepjax.errors import UserError
from stepjax.rewards.signals import SIGNALS, check_signals, judged_ends, stream_rewards
from stepjax.steps import Steps
from stepjax.trajectory import Trajectory

# Prompts end in column 1. Step 1 of the first row began and ended inside of a token of step 0: it has no token.
INDEX = np.array(
    [
        [-1, -1, 0, 0, 2, 2, -1],  # finished
        [-1, -1, 0, 0, 0, 1, 1],  # truncated inside of step 1
        [-1, -1, 0, -1, -1, -1, -1],  # truncated after one token
        [-1, -1, -1, -1, -1, -1, -1],  # no response at all
    ]
)
END = np.array(
    [
        [0, 0, 0, 1, 0, 1, 0],
        [0, 0, 0, 0, 1, 0, 1],
        [0, 0, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0],
    ],
    bool,
)
MASK = INDEX >= 0
B, T = INDEX.shape
OLD, REF = -np.random.default_rng(0).random((2, B, T)).astype(np.float32)
PRM = np.random.default_rng(1).dirichlet([1, 1, 1], (B, T)).astype(np.float32)
HOST = {
    "rating": np.array(  # whatever stands away from the ends of steps must not be read
        [[9, 9, 9, 1, 9, -1, 9], [9, 9, 9, 0, 0, 9, -1], [9, 9, 1, 9, 9, 9, 9], [9] * T], np.float32
    ),
    "correct": np.array([True, True, False, False]),
}
OPTIONS = StreamOptions(good=2.0, neutral=0.25, bad=-3.0)


def trajectory(**changes) -> Trajectory:
    fields = {
        "tokens": np.arange(B * T, dtype=np.int32).reshape(B, T),
        "prompt_length": np.array([2, 1, 2, 2], np.int32),
        "response_length": MASK.sum(1).astype(np.int32),
        "finished": np.array([True, False, False, False]),
        "logprobs": np.zeros((B, T), np.float32),
        "steps": Steps(index=INDEX, end=END),
        "old_logprobs": OLD,
        "ref_logprobs": REF,
        "prm": PRM,
    }
    return Trajectory(prompt_width=2, **jax.tree.map(jnp.asarray, {**fields, **changes}))


def rewards(signal: str, options: StreamOptions = OPTIONS, **changes) -> np.ndarray:
    return np.asarray(SIGNALS[signal](trajectory(**changes), HOST, options))


def expected(*entries: tuple[int, int, float]) -> np.ndarray:
    found = np.zeros((B, T), np.float32)
    for row, column, value in entries:
        found[row, column] = value
    return found


def test_a_step_that_truncation_cut_off_is_not_judged():
    assert np.argwhere(judged_ends(trajectory())).tolist() == [[0, 3], [0, 5], [1, 4]]


def test_prm_is_the_expected_worth_at_the_ends_of_judged_steps():
    worth = -3.0 * PRM[..., 0] + 0.25 * PRM[..., 1] + 2.0 * PRM[..., 2]
    wanted = expected(*((row, column, worth[row, column]) for row, column in ((0, 3), (0, 5), (1, 4))))
    np.testing.assert_allclose(rewards("prm"), wanted, rtol=1e-5)


def test_verifier_is_the_worth_of_the_exact_rating():
    np.testing.assert_array_equal(rewards("verifier"), expected((0, 3, 2.0), (0, 5, -3.0), (1, 4, 0.25)))


def test_outcome_stands_at_the_last_token_of_a_finished_response():
    np.testing.assert_array_equal(rewards("outcome"), expected((0, 5, 2.0)))
    finished = np.array([False, True, True, True])
    wanted = expected((1, 6, 2.0), (2, 2, -3.0))  # the last row has no token that could earn it
    np.testing.assert_array_equal(rewards("outcome", finished=finished), wanted)


def test_kl_is_on_every_response_token():
    np.testing.assert_array_equal(rewards("kl"), np.where(MASK, REF - OLD, 0.0))


@pytest.mark.parametrize("signal", SIGNALS)
def test_nothing_is_earned_outside_of_responses(signal):
    junk = np.where(MASK, 0.0, np.nan).astype(np.float32)
    found = rewards(signal, old_logprobs=OLD + junk, ref_logprobs=REF + junk, prm=PRM + junk[..., None])
    assert np.isfinite(found).all() and not found[~MASK].any()


def test_streams_keep_their_order_and_their_own_worths():
    streams = {
        "outcome": StreamOptions(signal="outcome", good=5.0),
        "steps": StreamOptions(signal="verifier", good=0.5, bad=-0.5),
        "kl": StreamOptions(signal="kl", weight=100.0, gamma=0.0),
        "again": StreamOptions(signal="verifier", good=7.0),
    }
    found = np.asarray(jax.jit(lambda rows, host: stream_rewards(rows, host, streams))(trajectory(), HOST))
    assert found.shape == (B, 4, T) and found.dtype == np.float32
    for i, options in enumerate(streams.values()):
        np.testing.assert_array_equal(found[:, i], rewards(options.signal, options))
    assert (found[0, :, 3] == [0.0, 0.5, REF[0, 3] - OLD[0, 3], 7.0]).all()
    assert found[0, 0, 5] == 5.0, "weight and discounts are not the signal's business"


def test_signals_that_do_not_exist_are_user_errors():
    check_signals({"a": StreamOptions(signal="outcome")})
    with pytest.raises(UserError, match=r"config\.ppo\.streams\.a\.signal: .*'outcmoe' \(did you mean 'outcome'\?\)"):
        check_signals({"b": StreamOptions(), "a": StreamOptions(signal="outcmoe")})
    with pytest.raises(UserError, match="name at least one reward stream"):
        check_signals({})
