"""Shaping where the scores lie: on tokens, against loops that gather each response's rated steps into a list."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stepjax.errors import UserError
from stepjax.rewards.places import rated_ends
from stepjax.rewards.shaping_chain import parse_shaping, shape_rewards
from stepjax.steps import Steps
from stepjax.trajectory import Trajectory

B, P, NEW = 4, 2, 8
T = P + NEW
CHAINS = [("clip:0.25", "delta"), ("delta", "bound:-0.5:0.75"), ("min_form:0.5", "clip:0.1"), ("bound:-1:1",),
          ("bound:0.5:1", "delta", "min_form:2"), ()]  # fmt: skip


@st.composite
def responses(draw) -> Trajectory:
    """Random step ends (steps of one token among them), gaps, truncation, empty responses."""
    length = draw(hnp.arrays(np.int32, (B,), elements=st.integers(0, NEW)))
    response = (np.arange(T) >= P) & (np.arange(T) < P + length[:, None])
    env_tokens = draw(hnp.arrays(np.bool_, (B, T))) & response & (np.arange(T) % 3 == 1)
    mask = response & ~env_tokens
    later = np.cumsum(mask[:, ::-1], axis=1)[:, ::-1] > 1
    end = mask & (draw(hnp.arrays(np.bool_, (B, T))) | ~later)
    index = np.where(mask, np.cumsum(end, axis=1) - end, -1).astype(np.int32)
    return Trajectory(
        tokens=np.zeros((B, T), np.int32),
        prompt_length=np.full(B, P, np.int32),
        response_length=length,
        finished=draw(hnp.arrays(np.bool_, (B,))) & (length > 0),
        logprobs=np.zeros((B, T), np.float32),
        prompt_width=P,
        env_tokens=env_tokens,
        steps=Steps(index=index, end=end),
    )


def shaped_row(scores: list[float], chain: tuple[str, ...]) -> list[float]:
    """One response's step scores, one shaping after the other."""
    r = np.asarray(scores, np.float64)
    for text in chain:
        name, *values = text.split(":")
        v = [float(x) for x in values]
        k = len(r)
        if name == "clip":
            r = np.minimum(r - v[0], 0)
        elif name == "bound":
            r = np.minimum(np.maximum(r, v[0]), v[1])
        elif name == "delta":
            r = np.array([r[i] - r[i + 1] if i < k - 2 else (r[i] if i == k - 2 else 0.0) for i in range(k)])
        elif k:
            weights = np.exp(-(r - r.min()) / v[0])
            r = weights / weights.sum() * r
    return list(r)


@functools.cache
def shape(chain: tuple[str, ...]):
    return jax.jit(lambda rewards, rows: shape_rewards(rewards, rated_ends(rows), chain))


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16, jnp.bfloat16])
@settings(max_examples=40, deadline=None, derandomize=True)
@given(responses(), hnp.arrays(np.float32, (B, T), elements=st.floats(-4, 4, width=16)))
def test_equals_gathering_shaping_and_putting_back(chain, dtype, rows, scores):
    steps, wanted, there = rows.steps, np.zeros((B, T)), np.zeros((B, T), bool)
    scores = np.asarray(jnp.asarray(scores, dtype), np.float32)
    for b in range(B):
        at = list(np.flatnonzero(steps.end[b]))
        if not rows.finished[b]:
            at = at[:-1]  # the step that the truncation cut off
        there[b, at] = True
        wanted[b, at] = shaped_row([scores[b, t] for t in at], chain)
    rewards = jnp.asarray(np.where(there, scores, 0), dtype)
    found = np.asarray(shape(chain)(rewards, rows), np.float32)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    assert not found[~there].any()


def test_what_is_not_there_is_not_read():
    there = np.array([[False, True, False, True]])
    junk = np.array([[np.nan, 1.0, np.inf, 2.0]], np.float32)
    np.testing.assert_array_equal(shape_rewards(junk, there, ("bound:-1:1", "delta")), [[0.0, 1.0, 0.0, 0.0]])


def test_the_order_counts():
    scores, there = np.array([[0.9, 0.2]], np.float32), np.ones((1, 2), bool)
    clip_first = shape_rewards(scores, there, ("clip:0.5", "delta"))
    delta_first = shape_rewards(scores, there, ("delta", "clip:0.5"))
    np.testing.assert_allclose(clip_first, [[0.0, 0.0]], atol=1e-6)
    np.testing.assert_allclose(delta_first, [[0.0, -0.5]], atol=1e-6)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("delt", r"no shaping 'delt' \(did you mean 'delta'\?\)"),
        ("clip", "must be written clip:ETA"),
        ("clip:0.5:1", "must be written clip:ETA"),
        ("clip:much", "must be written clip:ETA, with numbers"),
        ("clip:nan", "finite"),
        ("delta:1", "must be written delta"),
        ("best_of", "must be written best_of:K"),
        ("best_of:0.5", "K must be 1 or more"),
        ("early:2", "must be written early"),
        ("share:1", "must be written share"),
        ("min_form:0", "temperature must be above 0"),
        ("bound:1", "must be written bound:LOW:HIGH"),
        ("bound:1:-1", "lower bound lies above"),
    ],
)
def test_what_is_no_shaping_is_a_user_error(text, said):
    with pytest.raises(UserError, match=rf"^here: .*{said}"):
        parse_shaping(text, "here")
