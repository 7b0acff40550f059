"""Signals on a hand-made trajectory: a finished row whose step numbers skip one, and truncated ones."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stepjax.config import StreamOptions
from stepjax.errors import UserError
from stepjax.rewards.check import check_signals
from stepjax.rewards.places import rated_ends
from stepjax.rewards.reward_streams import abstract_host_signals, stream_rewards
from stepjax.rewards.signals import SIGNALS
from stepjax.steps import Steps
from stepjax.trajectory import Trajectory, Turns

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
    "limit_kept": np.array([1, -1, 0, 1], np.float32),
    "text_reward": np.where(END, 1.0 + np.arange(T), 9.0).astype(np.float32),
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
        "implicit": REF - OLD,
        "turns": Turns(jnp.full((B, T), 9.0), jnp.asarray(END), jnp.zeros(B, jnp.int32)),
    }
    return Trajectory(prompt_width=2, **jax.tree.map(jnp.asarray, {**fields, **changes}))


def rewards(signal: str, options: StreamOptions = OPTIONS, **changes) -> np.ndarray:
    return np.asarray(SIGNALS[signal].rewards(trajectory(**changes), HOST, options))


def expected(*entries: tuple[int, int, float]) -> np.ndarray:
    found = np.zeros((B, T), np.float32)
    for row, column, value in entries:
        found[row, column] = value
    return found


def test_a_step_that_truncation_cut_off_is_not_rated():
    assert np.argwhere(rated_ends(trajectory())).tolist() == [[0, 3], [0, 5], [1, 4]]


def test_prm_is_the_expected_worth_at_the_ends_of_rated_steps():
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


@pytest.mark.parametrize("kind", ["k2", "k3"])
def test_other_estimates_of_the_divergence(kind):
    x = (REF - OLD).astype(np.float64)
    wanted = -x * x / 2 if kind == "k2" else -(np.exp(x) - 1 - x)
    found = rewards("kl", dataclasses.replace(OPTIONS, kl_kind=kind))
    np.testing.assert_allclose(found, np.where(MASK, wanted, 0.0), rtol=1e-4, atol=1e-6)


def test_an_outcome_model_scores_the_last_step_of_a_finished_response_alone():
    worth = PRM[0, 5] @ np.array([-3.0, 0.25, 2.0])
    np.testing.assert_allclose(rewards("orm"), expected((0, 5, worth)), rtol=1e-5)


def test_models_of_two_classes_and_of_one_score():
    at = ((0, 3), (0, 5), (1, 4))
    two = expected(*((*p, PRM[p][:2] @ np.array([-3.0, 2.0])) for p in at))
    np.testing.assert_allclose(rewards("prm", prm=PRM[..., :2]), two, rtol=1e-5)
    one = expected(*((*p, PRM[p][0]) for p in at))
    np.testing.assert_allclose(rewards("prm", prm=PRM[..., :1]), one, rtol=1e-5)


def test_a_kept_limit_pays_at_the_end_and_a_broken_one_costs_even_where_truncated():
    np.testing.assert_array_equal(rewards("limit"), expected((0, 5, 2.0), (1, 6, -3.0)))


def test_what_the_host_rewards_stands_at_the_ends_of_rated_steps():
    for signal in ("format", "function"):
        np.testing.assert_array_equal(rewards(signal), expected((0, 3, 4.0), (0, 5, 6.0), (1, 4, 5.0)))


def test_lengths_are_counted_in_tokens():
    options = StreamOptions(signal="length", most=2, token_cost=0.5)
    np.testing.assert_array_equal(rewards("length", options), expected((1, 4, -0.5)))
    options = StreamOptions(signal="length", per="response", least=5, most=4, token_cost=0.5)
    np.testing.assert_array_equal(rewards("length", options), expected((0, 5, -0.5), (1, 6, -0.5)))


@pytest.mark.parametrize("signal", SIGNALS)
def test_nothing_is_earned_outside_of_responses(signal):
    junk = np.where(MASK, 0.0, np.nan).astype(np.float32)
    found = rewards(
        signal, old_logprobs=OLD + junk, ref_logprobs=REF + junk, prm=PRM + junk[..., None], implicit=REF - OLD + junk
    )
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


def test_a_stream_is_shaped_on_its_own_scores():
    streams = {
        "plain": StreamOptions(signal="verifier"),
        "shaped": StreamOptions(signal="verifier", shaping=("delta", "bound:-0.5:0.5")),
        "kl": StreamOptions(signal="kl", shaping=("bound:-0.1:0.1",)),
        "outcome": StreamOptions(signal="outcome", shaping=("bound:0:0.25",)),
        "text": StreamOptions(signal="function", function="a:b", shaping=("clip:5",)),
    }
    host = {**{k: HOST[k] for k in ("rating", "correct")}, "stream/text": HOST["text_reward"]}
    found = np.asarray(stream_rewards(trajectory(), host, streams))
    np.testing.assert_array_equal(found[:, 0], expected((0, 3, 1.0), (0, 5, -1.0), (1, 4, 0.0)))
    np.testing.assert_array_equal(found[:, 1], expected((0, 3, 0.5)))
    np.testing.assert_allclose(found[:, 2], np.where(MASK, np.clip(REF - OLD, -0.1, 0.1), 0.0))
    np.testing.assert_array_equal(found[:, 3], expected((0, 5, 0.25)))
    np.testing.assert_array_equal(found[:, 4], expected((0, 3, -1.0)))


def test_host_signals_are_those_that_the_streams_read():
    streams = {
        "a": StreamOptions(signal="limit"),
        "b": StreamOptions(signal="format", pattern="x"),
        "c": StreamOptions(signal="prm"),
    }
    found = abstract_host_signals(streams, B, T, None)
    assert {k: (v.shape, v.dtype) for k, v in found.items()} == {
        "rating": ((B, T), np.float32),
        "correct": ((B,), bool),
        "limit_kept": ((B,), np.float32),
        "stream/b": ((B, T), np.float32),
    }
    assert abstract_host_signals({"c": streams["c"]}, B, T, None).keys() == {"rating", "correct"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"signal": ""}, r"signal: names no signal \(there are: .*format, function"),
        ({"signal": "format"}, "pattern: signal format needs it"),
        ({"signal": "function"}, "function: signal function needs it: package.module:function"),
        ({"signal": "format", "pattern": "("}, "pattern: .* is not a regular expression"),
        ({"signal": "function", "function": "nowhere:f"}, "function: nowhere cannot be imported"),
        ({"signal": "prm", "pattern": "x"}, "pattern: only signal format reads it, not prm"),
        ({"signal": "kl", "most": 3}, "most: only signal length reads it, not kl"),
        ({"signal": "prm", "per": "response"}, "per: only signal length or format or implicit reads it, not prm"),
        ({"signal": "outcome", "kl_kind": "k3"}, "kl_kind: only signal kl reads it, not outcome"),
        ({"signal": "length"}, "signal length needs a band: set least, most or both"),
        ({"signal": "length", "least": 5, "most": 4}, "least: 5 tokens is above most=4"),
        ({"shaping": ("clip:1", "dleta")}, r"shaping: no shaping 'dleta' \(did you mean 'delta'\?\)"),
        ({"signal": "kl", "shaping": ("delta",)}, "shaping: 'delta' shapes the scores of steps, .* kl does not give"),
        ({"signal": "length", "most": 4, "per": "response", "shaping": ("clip:1",)}, "shaping: 'clip:1' shapes"),
        ({"signal": "limit", "shaping": ("bound:0:1",)}, "shaping: signal limit has nothing to shape"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_their_signal_are_user_errors(changes, said):
    with pytest.raises(UserError, match=rf"^config\.ppo\.streams\.mine(\.|: ){said}"):
        check_signals({"first": StreamOptions(), "mine": StreamOptions(**changes)})


def test_signals_that_do_not_exist_are_user_errors():
    check_signals({"a": StreamOptions(signal="outcome")})
    with pytest.raises(UserError, match=r"config\.ppo\.streams\.a\.signal: .*'outcmoe' \(did you mean 'outcome'\?\)"):
        check_signals({"b": StreamOptions(), "a": StreamOptions(signal="outcmoe")})
    with pytest.raises(UserError, match="name at least one reward stream"):
        check_signals({})
