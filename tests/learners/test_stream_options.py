"""What the credit program makes of a stream's options: states of its tokens, verdicts, probabilities, factors."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from learners.ppo_case import HOST, OPTIONS, P, T, credit, scored

from stepjax.config import StreamOptions
from stepjax.credit.streams import combine
from stepjax.errors import UserError
from stepjax.learners.ppo import make_streams
from stepjax.rewards.check import check_signals

PLAIN = {"whiten": False}
STREAMS = {
    "tree": StreamOptions(signal="prm", horizon="response", unit="step", baseline="mean", among="state",
                          when="return", **PLAIN),
    "right": StreamOptions(signal="outcome", horizon="response", gate="right", pay="right", estimator="return",
                           **PLAIN),
    "cut": StreamOptions(signal="kl", horizon="response", unit="cut:0.05:1", hold=True, gamma=0.5, **PLAIN),
    "more": StreamOptions(signal="prm", horizon="step", times="tree", pay="wrong", weight=2.0, **PLAIN),
    "added": StreamOptions(signal="length", per="response", most=4, token_cost=0.5, join="right", **PLAIN),
    "shared": StreamOptions(signal="prm", bad=0.0, neutral=0.5, shaping=("share",), estimator="return", **PLAIN),
}  # fmt: skip


@functools.cache
def credited():
    """Rows of which two pairs begin alike, and their credit."""
    rows = scored()
    tokens = rows.tokens.copy()
    tokens[:, :P] = 3  # one problem, all of the prompt's columns used
    tokens[1, P : P + 2], tokens[3, P : P + 4] = tokens[0, P : P + 2], tokens[2, P : P + 4]
    rows = dataclasses.replace(rows, tokens=tokens, prompt_length=np.full(8, P, np.int32))
    rows = dataclasses.replace(rows, values=rows.values.repeat(2, 1), bootstrap=rows.bootstrap.repeat(2, 1))
    return rows, credit(dataclasses.replace(OPTIONS, samples=2, streams=STREAMS), rows)


def test_a_program_credits_as_its_options_say():
    rows, found = credited()
    tokens = rows.tokens
    mask, end = np.asarray(rows.mask), rows.steps.end
    # Two tokens of a group have the same state if all tokens before them are the same.
    numbers: dict[tuple, int] = {}
    state = np.zeros((8, T), np.int32)
    for b in range(8):
        for t in range(P, T):
            state[b, t] = numbers.setdefault((b // 2, *tokens[b, :t]), len(numbers) % (2 * T))
    last = P + rows.response_length - 1
    rated = end & (rows.finished[:, None] | (np.arange(T) != last[:, None]))
    ends = mask & (np.arange(T) == last[:, None])
    places = {"tree": rated, "right": ends & rows.finished[:, None], "cut": mask, "more": rated, "added": ends}
    streams = make_streams(STREAMS)
    run = jax.jit(functools.partial(combine, streams, group=2))
    wanted = run(
        found.rewards.swapaxes(0, 1), found.values.swapaxes(0, 1), mask, end,
        bootstrap=found.bootstrap.swapaxes(0, 1), scored=np.stack([places.get(name, rated) for name in STREAMS]),
        finished=rows.finished, correct=HOST["correct"], logprobs=rows.old_logprobs, state=state,
    )  # fmt: skip
    advantages = dict(zip(STREAMS, found.advantages.swapaxes(0, 1), strict=True))
    for name, expected in zip(STREAMS, wanted.advantages, strict=True):
        np.testing.assert_allclose(advantages[name], expected, atol=1e-5, err_msg=name)
        assert np.any(expected) != (name == "added"), name
    total = sum(o.weight * advantages[name] for name, o in STREAMS.items())
    np.testing.assert_allclose(found.policy_weight, total, atol=1e-5)
    # Only rows 1 and 3 are finished and right; they earn their outcome less what they are too long.
    cost = 0.5 * np.maximum(rows.response_length - 4, 0)
    for b in range(8):
        pays = 1.0 - cost[b] if b in (1, 3) else 0.0
        np.testing.assert_allclose(advantages["right"][b, mask[b]], pays, atol=1e-6)


def test_shares_of_a_response_follow_the_sizes_of_its_steps():
    rows, found = credited()
    found = found.advantages[:, list(STREAMS).index("shared")]
    for b in np.flatnonzero(rows.finished):
        np.testing.assert_allclose(found[b, rows.mask[b]].mean(), 1.0, rtol=1e-5)


def test_a_stream_that_follows_another_has_no_critic():
    streams = {"a": StreamOptions(), "b": StreamOptions(times="a"), "c": StreamOptions(signal="length", join="a")}
    assert [stream.critic for stream in make_streams(streams)] == [True, False, False]
    with pytest.raises(UserError, match=r"^config\.ppo\.streams\.b\.critic_trunk: the stream has no critic"):
        check_signals(streams | {"b": StreamOptions(times="a", critic_trunk="own")})
    with pytest.raises(UserError, match=r"^config\.ppo\.streams: stream 'b': times: no stream 'z'"):
        make_streams(streams | {"b": StreamOptions(times="z")})
