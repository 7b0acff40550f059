"""The credit program and its streams against plain re-implementations, and one device against eight."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learners.padded import token_values
from learners.ppo_case import HOST, MESHES, OPTIONS, STREAMS, B, P, T, credit, credit_of, mesh, scored
from models.tiny import scorer, scorer_params

from stepjax.config import StreamOptions
from stepjax.errors import UserError
from stepjax.learners.ppo import credit_program, make_streams
from stepjax.parallel import batch_sharding, fetch, put, replicated
from stepjax.programs import abstract
from stepjax.rewards.signals import SIGNALS


def numpy_gae(rewards, values, bootstrap, end, length, gamma, lam, discount):
    """One row of one stream: advantages by the recursion, from the last token back."""
    advantages, value_after, advantage_after = np.zeros(T), bootstrap, 0.0
    for t in reversed(range(P, P + length)):
        c = gamma * (discount if end[t] and t != P + length - 1 else 1.0)
        advantage_after = rewards[t] + c * value_after - values[t] + c * lam * advantage_after
        advantages[t], value_after = advantage_after, values[t]
    return advantages


def test_credit_is_what_its_equations_say():
    rows, (_, found, metrics) = scored(), credit_of(False)
    mask, weight = np.asarray(rows.mask), np.zeros((B, T))
    for i, (name, o) in enumerate(STREAMS.items()):
        rewards = np.asarray(SIGNALS[o.signal].rewards(jax.tree.map(jnp.asarray, rows), HOST, o), np.float64)
        values, bootstrap = (x[:, i] * o.critic for x in (rows.values, rows.bootstrap))
        discount = {"step": 0.0, "response": 1.0, "0.5": 0.5}[o.horizon]
        columns = zip(rewards, values, bootstrap, rows.steps.end, rows.response_length, strict=True)
        advantages = np.stack([numpy_gae(*row, o.gamma, o.lam, discount) for row in columns])
        returns = np.where(mask, advantages + values, 0.0)
        if o.critic:
            explained = 1 - (returns - values)[mask].var() / returns[mask].var()
            np.testing.assert_allclose(metrics[f"explained_variance/{name}"], explained, rtol=1e-4)
        if o.whiten:
            advantages = np.where(mask, (advantages - advantages[mask].mean()) / advantages[mask].std(), 0.0)
        np.testing.assert_allclose(found.rewards[:, i], rewards, atol=1e-5)
        np.testing.assert_allclose(found.advantages[:, i], advantages, atol=1e-4)
        np.testing.assert_allclose(found.returns[:, i], returns, atol=1e-4)
        np.testing.assert_allclose(metrics[f"reward/{name}"], rewards.sum(1).mean(), rtol=1e-4)
        np.testing.assert_allclose(metrics[f"advantage_std/{name}"], advantages[mask].std(), rtol=1e-4)
        weight += o.weight * advantages
    np.testing.assert_allclose(found.policy_weight, weight, atol=1e-4)


def test_a_scored_batch_is_described():
    rows, (_, _, metrics) = scored(), credit_of(False)
    mask, end = np.asarray(rows.mask), rows.steps.end
    x = (rows.ref_logprobs - rows.old_logprobs)[mask].astype(np.float64)
    gap = np.abs(rows.logprobs - rows.old_logprobs)[mask]
    wanted = {
        "kl/reference": (np.exp(x) - 1 - x).mean(),
        "entropy": rows.entropy[mask].mean(),
        "length/tokens": 46 / 8,
        "length/steps": end.sum() / 8,
        "length/truncated": 0.5,
        "mismatch/mean": gap.mean(),
        "mismatch/max": gap.max(),
        **{f"prm/{name}": (rows.prm[end].argmax(-1) == i).mean() for i, name in enumerate(("bad", "neutral", "good"))},
    }
    for name, value in wanted.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, err_msg=name)
    kinds = ("reward", "reward_std", "advantage_mean", "advantage_std", "return_mean", "return_std")
    others = {f"{kind}/{name}" for kind in kinds for name in STREAMS}
    others |= {f"explained_variance/{s}" for s in ("process", "outcome")}
    others |= {f"advantage_corr/{pair}" for pair in ("process:outcome", "process:kl", "outcome:kl")}
    assert metrics.keys() - wanted.keys() == others


def test_streams_are_described():
    _, found, metrics = credit_of(False)
    mask = np.asarray(scored().mask)
    advantages, returns = (x.swapaxes(0, 1)[:, mask].astype(np.float64) for x in (found.advantages, found.returns))
    for i, a in enumerate(STREAMS):
        for kind, x in (("advantage", advantages[i]), ("return", returns[i])):
            np.testing.assert_allclose(metrics[f"{kind}_mean/{a}"], x.mean(), rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(metrics[f"{kind}_std/{a}"], x.std(), rtol=1e-4)
        for j, b in list(enumerate(STREAMS))[i + 1 :]:
            np.testing.assert_allclose(
                metrics[f"advantage_corr/{a}:{b}"], np.corrcoef(advantages[i], advantages[j])[0, 1], rtol=1e-4
            )


def test_estimators_of_a_run():
    """What the options become; each estimator is tested in tests/credit."""
    kinds = ("return", "value", "progress", "group", "rloo")
    streams = {e: StreamOptions(signal="prm", estimator=e, whiten=False, good=2.0) for e in kinds}
    streams["progress"] = dataclasses.replace(streams["progress"], first=0.25)
    streams["outcomes"] = StreamOptions(signal="outcome", estimator="rloo", whiten=False, horizon="response")
    rows = dataclasses.replace(scored(), values=None, bootstrap=None)
    found = credit(dataclasses.replace(OPTIONS, samples=2, streams=streams), rows)
    assert not found.values.any()
    end, mask = rows.steps.end, np.asarray(rows.mask)
    advantages = dict(zip(streams, found.advantages.swapaxes(0, 1), strict=True))
    np.testing.assert_array_equal(advantages["return"], advantages["value"])  # within a step, without a discount
    rated = end & (rows.finished[:, None] | (np.arange(T) != P + rows.response_length[:, None] - 1))
    worth = rows.prm @ np.array([-1.0, 0.0, 2.0])
    for b in range(B):
        ends = np.flatnonzero(end[b])
        made = advantages["progress"][b, ends].sum()
        scores = worth[b, rated[b]]
        last = (2.0 if b < 4 else -1.0) if rows.finished[b] else scores[-1] if len(scores) else 0.25
        assert made == pytest.approx(last - 0.25, abs=1e-5)
        # One of each two responses is truncated and has no outcome: the other has nothing to be compared with.
        outcome = (1.0 if b < 4 else -1.0) if rows.finished[b] else 0.0
        np.testing.assert_array_equal(advantages["outcomes"][b], np.where(mask[b], outcome, 0.0))
        pair = [rows.prm[r] @ np.array([-1.0, 0.0, 2.0]) for r in (b, b ^ 1)]
        there = [rated[r] for r in (b, b ^ 1)]
        scores = np.concatenate([x[t] for x, t in zip(pair, there, strict=True)])
        others = pair[1][there[1]]
        for t in np.flatnonzero(there[0]):
            normalised = (pair[0][t] - scores.mean()) / scores.std() if len(scores) > 1 else 0.0
            assert advantages["group"][b, t] == pytest.approx(normalised, abs=1e-4)
            assert advantages["rloo"][b, t] == pytest.approx(
                pair[0][t] - (others.mean() if len(others) else 0), abs=1e-4
            )


@pytest.mark.parametrize("estimator", ["group", "rloo"])
def test_a_single_response_has_nothing_to_be_compared_with(estimator):
    options = dataclasses.replace(OPTIONS, streams={"mine": StreamOptions(estimator=estimator)})
    said = rf"^config\.ppo\.samples: must be 2 or more, not 1: the estimator '{estimator}' of the stream 'mine'"
    with pytest.raises(UserError, match=said):
        credit(options, scored())


@pytest.mark.parametrize("shape", MESHES[1:])
def test_credit_on_eight_devices_is_that_of_one(shape):
    for wanted, found in zip(credit_of(False)[1:], credit_of(False, shape)[1:], strict=True):
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), found, wanted)


def test_a_stream_of_weight_zero_changes_nothing():
    rows = scored()
    extra = dataclasses.replace(STREAMS["outcome"], weight=0.0, good=100.0, whiten=True)
    wide = dataclasses.replace(
        rows,
        values=np.concatenate([rows.values, 9 * rows.values[:, :1]], axis=1),
        bootstrap=np.concatenate([rows.bootstrap, 9 * rows.bootstrap[:, :1]], axis=1),
    )
    found = credit(dataclasses.replace(OPTIONS, streams={**STREAMS, "extra": extra}), wide)
    wanted = credit_of(False)[1]
    assert np.abs(found.advantages[:, 3]).max() > 0.1
    np.testing.assert_allclose(found.policy_weight, wanted.policy_weight, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.returns[:, :3], wanted.returns, rtol=1e-6, atol=1e-6)


def test_truncated_responses_are_bootstrapped_and_finished_ones_are_not():
    """Without rewards, and with γ = λ = 1 over the whole response, an advantage is the last value minus the token's."""
    rows = dataclasses.replace(scored(), ref_logprobs=scored().old_logprobs)
    after = fetch(
        jax.jit(lambda r: scorer().bind(scorer_params())(r.tokens, r.positions, r.segments))(rows)
    )  # [B, T, 3], having read token t
    stream = StreamOptions(signal="kl", horizon="response", lam=1.0, whiten=False)
    found = credit(dataclasses.replace(OPTIONS, streams=dict.fromkeys("abc", stream)), rows)
    for b in range(B):
        last = P + rows.response_length[b] - 1
        final = np.zeros(3) if rows.finished[b] else after[b, last]
        wanted = final[:, None] - rows.values[b, :, P : last + 1]
        np.testing.assert_allclose(found.advantages[b, :, P : last + 1], wanted, atol=1e-5)
    assert np.abs(after[0, T - 1]).min() > 0.01


def test_values_are_those_before_the_token():
    rows = scored()
    critic = scorer().bind(scorer_params())
    after, (values, _) = fetch(
        jax.jit(lambda r: (critic(r.tokens, r.positions, r.segments), token_values(critic, r)))(rows)
    )
    wanted = np.where(np.asarray(rows.mask)[:, None], np.roll(after, 1, axis=1).swapaxes(1, 2), 0.0)
    np.testing.assert_allclose(values, wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"horizon": "steps"}, "horizon 'steps': must be"),
        ({"horizon": "1.5"}, r"horizon 1\.5: must be"),
        ({"horizon": "nan"}, "horizon nan: must be"),
        ({"gamma": 1.5}, r"gamma 1\.5"),
        ({"lam": -0.1}, r"lam -0\.1"),
        ({"weight": float("inf")}, "weight inf"),
        ({"estimator": "progress", "horizon": "response"}, "estimator 'progress' credits .* horizon must be"),
        ({"estimator": "gea"}, "estimator 'gea': must be one of gae, return"),
        ({"first": 0.5}, "first: only estimator progress reads it, not gae"),
    ],
)
def test_streams_that_cannot_be_are_user_errors(changes, said):
    with pytest.raises(UserError, match=rf"^config\.ppo\.streams\.mine[.:].*{said}"):
        make_streams({"process": StreamOptions(), "mine": StreamOptions(**changes)})


def test_horizons_are_words_or_numbers():
    streams = make_streams({h: StreamOptions(horizon=h) for h in ("step", "turn", "response", "0.25", "1e-1", "1")})
    assert [s.horizon for s in streams] == ["step", "turn", "response", 0.25, 0.1, 1.0]


def test_an_adapted_weight_takes_the_place_of_the_streams_own():
    streams = dict(OPTIONS.streams, kl=dataclasses.replace(OPTIONS.streams["kl"], kl_target=0.1))
    options, by_row = dataclasses.replace(OPTIONS, streams=streams), batch_sharding(mesh(MESHES[0]))
    rows = scored()
    program = credit_program(options, mesh(MESHES[0]), abstract(put(rows, by_row)))
    given = put(HOST, by_row) | put({"weight/kl": np.float32(2.5)}, replicated(mesh(MESHES[0])))
    found, metrics = fetch(program(put(rows, by_row), given))
    by_hand = dict(streams, kl=dataclasses.replace(streams["kl"], kl_target=0.0, weight=2.5))
    expected = credit(dataclasses.replace(OPTIONS, streams=by_hand), rows)
    np.testing.assert_array_equal(found.policy_weight, expected.policy_weight)
    assert np.abs(expected.policy_weight - credit(OPTIONS, rows).policy_weight).max() > 0.1
    assert metrics["weight/kl"] == 2.5


def test_only_gae_has_a_critic():
    streams = make_streams({e: StreamOptions(estimator=e) for e in ("gae", "return", "value", "group", "rloo")})
    assert [s.critic for s in streams] == [True, False, False, False, False]
