"""Streams: each is credited as if alone, and their weighted sum is the policy's weight."""

import dataclasses
from fractions import Fraction

import jax
import numpy as np
import pytest

from stepjax.credit import segment_gae
from stepjax.credit.horizon import boundary_discount
from stepjax.credit.streams import Credit, Stream, combine
from stepjax.credit.whiten import whiten

B, T = 8, 12


@pytest.fixture(scope="module")
def batch():
    """Rewards and values of three streams, a mask with gaps, step ends, bootstraps."""
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(2, 3, B, T)).astype(np.float32)
    mask, step_end = rng.random((B, T)) < 0.8, rng.random((B, T)) < 0.3
    mask[3] = False
    return rewards, values, mask, step_end, rng.normal(size=(3, B)).astype(np.float32)


def alone(stream, rewards, values, mask, step_end, bootstrap):
    return segment_gae(
        rewards, values, mask, step_end, gamma=stream.gamma, lam=stream.lam,
        boundary_discount=boundary_discount(stream.horizon), bootstrap=bootstrap,
    )  # fmt: skip


@pytest.mark.parametrize("horizon, expected", [("step", 0.0), ("response", 1.0), ("turn", 1.0), (0, 0.0), (0.5, 0.5),
                                               (1, 1.0), (np.float32(0.25), 0.25), (Fraction(3, 4), 0.75)])  # fmt: skip
def test_boundary_discount(horizon, expected):
    found = boundary_discount(horizon)
    assert type(found) is float and found == expected


@pytest.mark.parametrize("horizon", ["steps", "", "0.5", -0.1, 1.5, float("nan"), float("inf"), True, None])
def test_other_horizons_are_refused(horizon):
    with pytest.raises(ValueError, match=r'must be "step", "turn", "response" or a number between 0 and 1'):
        boundary_discount(horizon)
    with pytest.raises(ValueError):
        Stream("process", horizon=horizon)


@pytest.mark.parametrize("field", ["gamma", "lam"])
def test_discounts_out_of_range_are_refused(field):
    with pytest.raises(ValueError, match=f"stream 'process': {field} 1.5"):
        Stream("process", **{field: 1.5})


def test_a_weight_must_be_finite():
    with pytest.raises(ValueError, match="weight nan"):
        Stream("process", weight=float("nan"))


def test_each_stream_is_credited_as_if_alone(batch):
    rewards, values, mask, step_end, bootstrap = batch
    streams = [
        Stream("process", horizon="step", gamma=1.0, lam=0.95, weight=1.0, whiten=True),
        Stream("outcome", horizon="response", gamma=0.99, lam=1.0, weight=0.5),
        Stream("length", horizon=0.5, gamma=0.9, lam=0.9, weight=-2.0),
    ]
    credit = combine(streams, *batch[:4], bootstrap=bootstrap)
    weight = np.zeros((B, T))
    for i, stream in enumerate(streams):
        advantages, returns = alone(stream, rewards[i], values[i], mask, step_end, bootstrap[i])
        if stream.whiten:
            advantages = whiten(advantages, mask)
        np.testing.assert_allclose(credit.advantages[i], advantages, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(credit.returns[i], returns, rtol=1e-6, atol=1e-6)
        weight += stream.weight * np.asarray(advantages)
    np.testing.assert_allclose(credit.weight, weight, rtol=1e-6, atol=1e-6)
    assert not np.any(np.asarray(credit.weight)[~mask])


def test_one_stream_of_weight_one_is_no_streams(batch):
    rewards, values, mask, step_end, bootstrap = batch
    stream = Stream("process", whiten=False)
    credit = combine([stream], rewards[:1], values[:1], mask, step_end, bootstrap=bootstrap[:1])
    advantages, returns = alone(stream, rewards[0], values[0], mask, step_end, bootstrap[0])
    np.testing.assert_array_equal(credit.weight, credit.advantages[0])
    np.testing.assert_allclose(credit.weight, advantages, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(credit.returns[0], returns, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("whitened", [False, True])
def test_two_halves_are_one(batch, whitened):
    rewards, values, mask, step_end, bootstrap = batch
    one = Stream("process", horizon=0.5, weight=1.0, whiten=whitened)
    half = dataclasses.replace(one, weight=0.5)
    whole = combine([one], rewards[:1], values[:1], mask, step_end, bootstrap=bootstrap[:1])
    twice = [np.repeat(x[:1], 2, axis=0) for x in (rewards, values, bootstrap)]
    halves = combine([half, half], *twice[:2], mask, step_end, bootstrap=twice[2])
    np.testing.assert_allclose(halves.weight, whole.weight, rtol=1e-6, atol=1e-6)


def test_without_a_critic_values_and_bootstrap_are_not_read(batch):
    rewards, values, mask, step_end, bootstrap = batch
    streams = [Stream("process", critic=False), Stream("outcome", horizon="response")]
    junk_values, junk_bootstrap = values[:2].copy(), bootstrap[:2].copy()
    junk_values[0], junk_bootstrap[0] = np.nan, np.nan
    credit = combine(streams, rewards[:2], junk_values, mask, step_end, bootstrap=junk_bootstrap)
    zero = np.zeros_like(values[0])
    advantages, _ = alone(streams[0], rewards[0], zero, mask, step_end, zero[:, 0])
    np.testing.assert_allclose(credit.advantages[0], advantages, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(credit.returns[0], credit.advantages[0])
    advantages, _ = alone(streams[1], rewards[1], values[1], mask, step_end, bootstrap[1])
    np.testing.assert_allclose(credit.advantages[1], advantages, rtol=1e-6, atol=1e-6)


def test_no_bootstrap_is_a_finished_response(batch):
    rewards, values, mask, step_end, _ = batch
    streams = [Stream(name) for name in "abc"]
    without = combine(streams, rewards, values, mask, step_end)
    zeros = combine(streams, rewards, values, mask, step_end, bootstrap=np.zeros((3, B), np.float32))
    np.testing.assert_array_equal(without.weight, zeros.weight)


def test_one_scan_under_jit_and_the_same_on_eight_devices(batch):
    streams = [Stream("process", whiten=True), Stream("outcome", horizon="response"), Stream("kl", critic=False)]

    @jax.jit
    def credit(rewards, values, mask, step_end, bootstrap) -> Credit:
        return combine(streams, rewards, values, mask, step_end, bootstrap=bootstrap)

    assert str(jax.make_jaxpr(credit)(*batch)).count(" scan[") == 1
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))

    def put(x, axis):
        spec = jax.sharding.PartitionSpec(*[None] * axis, "data")
        return jax.device_put(x, jax.sharding.NamedSharding(mesh, spec))

    spread = [put(x, axis) for x, axis in zip(batch, (1, 1, 0, 0, 1), strict=True)]
    for a, b in zip(jax.tree.leaves(credit(*batch)), jax.tree.leaves(credit(*spread)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_shapes_and_types_are_checked(batch):
    rewards, values, mask, step_end, bootstrap = batch
    streams = [Stream("a"), Stream("b")]
    with pytest.raises(AssertionError):
        combine(streams, rewards, values, mask, step_end)
    with pytest.raises(AssertionError):  # rewards in an integer buffer have lost their fractions
        combine(streams, rewards[:2].astype(np.int32), values[:2], mask, step_end)
    with pytest.raises(AssertionError):
        combine(streams, rewards[:2], values[:2], mask, step_end, bootstrap=bootstrap)


def test_the_means_of_responses_are_compared_whatever_their_lengths():
    """Means 1, 3 and 2 of responses with two scores, one and three: 2 ± 1 over all of them."""
    rewards = np.array([[[0, 2, 9], [3, 9, 9], [2, 2, 2]]], np.float32)
    mask = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1]], bool)
    stream = Stream("mine", "step", baseline="mean", scale="sample_std", among="response")
    found = combine([stream], rewards, rewards, mask, mask, scored=mask[None], group=3).advantages[0]
    np.testing.assert_allclose(found, [[-2, 0, 0], [1, 0, 0], [0, 0, 0]], atol=1e-6)
    others = dataclasses.replace(stream, baseline="others", scale="none")
    found = combine([others], rewards, rewards, mask, mask, scored=mask[None], group=3).advantages[0]
    np.testing.assert_allclose(found, [[-2.5, -0.5, 0], [1.5, 0, 0], [0, 0, 0]], atol=1e-6)
