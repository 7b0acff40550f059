"""segment_gae against a loop over tokens in float64, against rlax, and by what must not change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stepjax.credit import segment_gae

B, T = 3, 12  # one shape for all examples: compiled once
NUMBERS = st.floats(-4, 4, width=16)
UNIT = st.sampled_from([0.0, 0.5, 0.9375, 1.0])
quick = settings(max_examples=60, deadline=None, derandomize=True)


def reals(shape=(B, T)):
    return hnp.arrays(np.float32, shape, elements=NUMBERS)


def bools(shape=(B, T)):
    return hnp.arrays(np.bool_, shape)


def loop(rewards, values, mask, step_end, *, gamma, lam, boundary_discount=0.0, bootstrap=None):
    """The definition: response tokens of a row in reverse order, float64."""
    rewards, values = np.asarray(rewards, np.float64), np.asarray(values, np.float64)
    advantages, returns = np.zeros(rewards.shape), np.zeros(rewards.shape)
    for b in range(len(rewards)):
        tokens = [t for t in range(rewards.shape[1]) if mask[b, t]]
        next_value, next_advantage = 0.0 if bootstrap is None else float(bootstrap[b]), 0.0
        for t in reversed(tokens):
            factor = boundary_discount if step_end[b, t] and t != tokens[-1] else 1.0
            td_error = rewards[b, t] + gamma * factor * next_value - values[b, t]
            next_advantage = td_error + gamma * lam * factor * next_advantage
            next_value = values[b, t]
            advantages[b, t], returns[b, t] = next_advantage, next_advantage + values[b, t]
    return advantages, returns


def assert_bits(a, b):
    """Equality to the last bit (and of the sign of 0)."""
    np.testing.assert_array_equal(np.asarray(a).view(np.uint32), np.asarray(b).view(np.uint32))


@quick
@given(reals(), reals(), bools(), bools(), reals((B,)), UNIT, UNIT, UNIT)
@example(np.ones((B, T), np.float32), np.ones((B, T), np.float32), np.ones((B, T), bool), np.ones((B, T), bool),
         np.ones(B, np.float32), 1.0, 1.0, 0.0)  # steps of one token, truncated  # fmt: skip
@example(np.ones((B, T), np.float32), np.ones((B, T), np.float32), np.zeros((B, T), bool), np.ones((B, T), bool),
         np.ones(B, np.float32), 1.0, 1.0, 1.0)  # nothing masked  # fmt: skip
def test_equals_a_loop_over_tokens(rewards, values, mask, step_end, bootstrap, gamma, lam, across):
    options = {"gamma": gamma, "lam": lam, "boundary_discount": across, "bootstrap": bootstrap}
    found = segment_gae(rewards, values, mask, step_end, **options)
    for array, expected in zip(found, loop(rewards, values, mask, step_end, **options), strict=True):
        assert array.dtype == jnp.float32
        np.testing.assert_allclose(array, expected, rtol=1e-6, atol=1e-6)
        assert np.all(np.asarray(array)[~mask] == 0.0)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.int32])
def test_float32_inside_whatever_comes_in(dtype):
    rng = np.random.default_rng(0)
    rewards, values = (jnp.asarray(rng.normal(size=(B, T)) * 3, dtype) for _ in range(2))
    bootstrap = jnp.asarray(rng.normal(size=B), dtype)
    mask, step_end = rng.random((2, B, T)) < 0.7
    found = segment_gae(rewards, values, mask, step_end, gamma=0.99, lam=0.95, bootstrap=bootstrap)
    expected = loop(*(np.asarray(x, np.float64) for x in (rewards, values)), mask, step_end, gamma=0.99, lam=0.95,
                    bootstrap=np.asarray(bootstrap, np.float64))  # fmt: skip
    for array, reference in zip(found, expected, strict=True):
        assert array.dtype == jnp.float32
        np.testing.assert_allclose(array, reference, rtol=1e-6, atol=1e-6)


def test_defaults_are_step_horizon_and_finished():
    ones, full = np.ones((B, T), np.float32), np.ones((B, T), bool)
    step_end = np.arange(T)[None].repeat(B, 0) % 4 == 3
    advantages, returns = segment_gae(ones, 0 * ones, full, step_end, gamma=1.0, lam=1.0)
    np.testing.assert_array_equal(advantages, np.tile([4.0, 3.0, 2.0, 1.0], (B, 3)))
    np.testing.assert_array_equal(returns, advantages)


@pytest.fixture(scope="module")
def rlax_gae():
    gae = pytest.importorskip("rlax").truncated_generalized_advantage_estimation
    return jax.jit(jax.vmap(gae, in_axes=(0, None, None, 0)))


@quick
@given(reals(), reals(), reals((B,)), bools(), UNIT, UNIT)
def test_without_boundaries_it_is_gae(rlax_gae, rewards, values, bootstrap, step_end, gamma, lam):
    advantages, _ = segment_gae(
        rewards, values, np.ones((B, T), bool), step_end,
        gamma=gamma, lam=lam, boundary_discount=1.0, bootstrap=bootstrap,
    )  # fmt: skip
    discount = np.full(T, gamma, np.float32)
    expected = rlax_gae(rewards, discount, np.float32(lam), np.concatenate([values, bootstrap[:, None]], axis=1))
    np.testing.assert_allclose(advantages, expected, rtol=1e-6, atol=1e-6)


@quick
@given(reals(), reals(), bools(), bools(), reals((B,)), UNIT, UNIT)
def test_a_cut_is_gae_on_each_step_cut_out(rewards, values, mask, step_end, bootstrap, gamma, lam):
    advantages, returns = segment_gae(
        rewards, values, mask, step_end, gamma=gamma, lam=lam, boundary_discount=0.0, bootstrap=bootstrap
    )
    ends = step_end & mask
    index = np.cumsum(ends, axis=1) - ends
    last = np.where(mask, index, -1).max(axis=1)
    for k in range(index.max() + 1):
        step = mask & (index == k)
        found = segment_gae(
            rewards, values, step, step_end,
            gamma=gamma, lam=lam, boundary_discount=1.0, bootstrap=np.where(last == k, bootstrap, 0),
        )  # fmt: skip
        np.testing.assert_array_equal(np.where(step, advantages, 0), found[0])
        np.testing.assert_array_equal(np.where(step, returns, 0), found[1])


@quick
@given(reals(), reals(), bools(), bools(), UNIT, UNIT, st.integers(0, T - 2),
       st.sampled_from([0.5, 1e30, np.inf, -np.inf, np.nan]))  # fmt: skip
def test_later_steps_leave_earlier_ones_bit_identical(rewards, values, mask, step_end, gamma, lam, cut, later):
    mask[:, cut], step_end[:, cut] = True, True

    def credit(r, v, last):
        return segment_gae(
            r, v, mask, step_end, gamma=gamma, lam=lam, boundary_discount=0.0, bootstrap=np.full(B, last, np.float32)
        )

    # A later masked token must exist: after the last one, the bootstrap belongs to the step.
    mask[:, cut + 1] = True
    changed_rewards, changed_values = rewards.copy(), values.copy()
    changed_rewards[:, cut + 1 :] = later
    changed_values[:, cut + 1 :] = later
    before, after = credit(rewards, values, 0.0), credit(changed_rewards, changed_values, later)
    for a, b in zip(before, after, strict=True):
        assert_bits(a[:, : cut + 1], b[:, : cut + 1])


def test_zero_gamma_and_lambda_cut_too():
    bad = np.array([[1.0, np.nan, np.inf]], np.float32)
    full, none = np.ones((1, 3), bool), np.zeros((1, 3), bool)
    advantages, _ = segment_gae(bad, bad, full, none, gamma=0.0, lam=1.0, boundary_discount=1.0)
    assert advantages[0, 0] == 0.0
    advantages, _ = segment_gae(bad, np.zeros((1, 3), np.float32), full, none, gamma=1.0, lam=0.0)
    assert advantages[0, 0] == 1.0


@quick
@given(reals(), reals(), bools(), bools(), reals((B,)), UNIT)
def test_unmasked_tokens_are_not_read(rewards, values, mask, step_end, bootstrap, across):
    options = {"gamma": 0.9375, "lam": 0.9375, "boundary_discount": across, "bootstrap": bootstrap}
    noisy = [np.where(mask, x, np.float32(np.nan)) for x in (rewards, values)]
    found = segment_gae(*noisy, mask, step_end | ~mask, **options)
    for a, b in zip(segment_gae(rewards, values, mask, step_end, **options), found, strict=True):
        assert_bits(a, b)


def test_a_row_without_tokens_gives_zero():
    junk = np.full((B, T), np.nan, np.float32)
    none = np.zeros((B, T), bool)
    for array in segment_gae(junk, junk, none, ~none, gamma=1.0, lam=1.0, bootstrap=junk[:, 0]):
        np.testing.assert_array_equal(array, np.zeros((B, T)))


def test_scalars_may_be_traced_and_are_differentiable():
    rng = np.random.default_rng(1)
    rewards, values = rng.normal(size=(2, B, T)).astype(np.float32)
    mask, step_end = rng.random((2, B, T)) < 0.6

    @jax.jit
    def total(scalars):
        gamma, lam, across = scalars
        return segment_gae(rewards, values, mask, step_end, gamma=gamma, lam=lam, boundary_discount=across)[0].sum()

    def reference(scalars):
        gamma, lam, across = scalars
        return loop(rewards, values, mask, step_end, gamma=gamma, lam=lam, boundary_discount=across)[0].sum()

    at, h = np.array([0.9, 0.8, 0.5]), 1e-6
    np.testing.assert_allclose(total(at.astype(np.float32)), reference(at), rtol=1e-4)
    numeric = [(reference(at + h * e) - reference(at - h * e)) / (2 * h) for e in np.eye(3)]
    np.testing.assert_allclose(jax.grad(total)(at.astype(np.float32)), numeric, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("change", [{"mask": np.ones((B, T), np.int32)}, {"values": np.ones((B, T - 1), np.float32)},
                                    {"bootstrap": np.ones(B + 1, np.float32)}, {"gamma": np.ones(B)}])  # fmt: skip
def test_wrong_shapes_and_types_are_refused(change):
    ones, full = np.ones((B, T), np.float32), np.ones((B, T), bool)
    inputs = {"rewards": ones, "values": ones, "mask": full, "step_end": full, "gamma": 1.0, "lam": 1.0} | change
    with pytest.raises(AssertionError):
        segment_gae(**inputs)
