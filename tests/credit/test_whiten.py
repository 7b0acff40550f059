"""Statistics over valid tokens: against NumPy on the valid entries, and the same numbers on eight devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jax.sharding import NamedSharding, PartitionSpec

from stepjax.credit.whiten import correlation, explained_variance, masked_mean, masked_var, whiten

SHAPE = (8, 6)
quick = settings(max_examples=40, deadline=None, derandomize=True)
numbers = hnp.arrays(np.float32, SHAPE, elements=st.floats(-100, 100, width=16))
masks = hnp.arrays(np.bool_, SHAPE)

mean, var = jax.jit(masked_mean), jax.jit(masked_var)
whitened = jax.jit(whiten, static_argnames="shift_mean")
explained = jax.jit(explained_variance)
correlated = jax.jit(correlation)


@quick
@given(numbers, masks)
def test_mean_and_variance_of_the_valid_entries(x, mask):
    valid = x[mask].astype(np.float64) if mask.any() else np.zeros(1)
    noisy = np.where(mask, x, np.nan)
    np.testing.assert_allclose(mean(noisy, mask), valid.mean(), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(var(noisy, mask), valid.var(), rtol=1e-4, atol=1e-3)


@quick
@given(numbers, masks, st.booleans())
def test_whitened_entries_have_unit_spread(x, mask, shift_mean):
    found = np.asarray(whitened(np.where(mask, x, np.nan), mask, shift_mean=shift_mean, epsilon=1e-2))
    assert found.dtype == np.float32 and np.all(found[~mask] == 0.0)
    if mask.any():
        valid = x[mask].astype(np.float64)
        expected = (valid - valid.mean()) / np.sqrt(valid.var() + 1e-2) + (0.0 if shift_mean else valid.mean())
        np.testing.assert_allclose(found[mask], expected, rtol=1e-4, atol=1e-3)


def test_whiten_ignores_scale_and_offset():
    rng = np.random.default_rng(0)
    x, mask = rng.normal(size=SHAPE).astype(np.float32), rng.random(SHAPE) < 0.7
    np.testing.assert_allclose(whitened(5 * x + 3, mask), whitened(x, mask), atol=1e-5)
    np.testing.assert_allclose(np.asarray(whitened(x, mask))[mask].std(), 1.0, rtol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_low_precision_is_summed_in_float32(dtype):
    x = jnp.full((64, 64), 1.0009765625 if dtype == jnp.float16 else 1.0078125, dtype)
    mask = np.ones((64, 64), bool)
    assert mean(x, mask).dtype == jnp.float32
    np.testing.assert_allclose(mean(x, mask), float(x[0, 0]), rtol=1e-6)


def test_the_same_on_eight_devices():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, *SHAPE)).astype(np.float32) + 2
    mask = rng.random(SHAPE) < np.linspace(0.05, 1, 8)[:, None]  # devices with different counts
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = [jax.device_put(a, NamedSharding(mesh, PartitionSpec("data"))) for a in (x, y, mask)]
    assert len(spread[0].sharding.device_set) == 8
    np.testing.assert_allclose(whitened(spread[0], spread[2]), whitened(x, mask), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(explained(*spread), explained(x, y, mask), rtol=1e-5)


def test_explained_variance():
    rng = np.random.default_rng(2)
    returns = rng.normal(size=SHAPE).astype(np.float32)
    values = (returns + 0.5 * rng.normal(size=SHAPE)).astype(np.float32)
    mask = rng.random(SHAPE) < 0.7
    expected = 1 - np.var((returns - values)[mask].astype(np.float64)) / np.var(returns[mask].astype(np.float64))
    np.testing.assert_allclose(explained(np.where(mask, values, np.nan), returns, mask), expected, rtol=1e-4)
    assert explained(returns + 3, returns, mask) == pytest.approx(1.0)  # a constant offset is not spread
    assert explained(np.full_like(returns, 3), returns, mask) == pytest.approx(0.0, abs=1e-5)
    assert explained(values, np.ones_like(returns), mask) == 0.0
    nothing = (np.float32(-0.3) * values - values) - np.float32(-1.3) * values  # 0 but for rounding
    assert nothing.any() and explained(values, nothing, mask) == 0.0


@quick
@given(numbers, numbers, masks)
def test_correlation_of_the_valid_entries(x, y, mask):
    found = float(correlated(*(np.where(mask, z, np.nan) for z in (x, y)), mask))
    valid = [z[mask].astype(np.float64) for z in (x, y)]
    if all(len(v) and v.std() > 1e-3 * (1 + np.abs(v).max()) for v in valid):
        assert found == pytest.approx(np.corrcoef(*valid)[0, 1], abs=1e-3)
    assert -1.0 <= found <= 1.0


def test_correlation_of_what_does_not_vary_is_zero():
    x = np.random.default_rng(3).normal(size=SHAPE).astype(np.float32)
    full = np.ones(SHAPE, bool)
    assert correlated(x, 2 - 3 * x, full) == pytest.approx(-1.0) and correlated(x, x + 5, full) == pytest.approx(1.0)
    for still in (np.zeros_like(x), np.full_like(x, 0.1)):
        assert correlated(x, still, full) == 0.0
    assert correlated(x, x, ~full) == 0.0


def test_nothing_valid_is_zero_and_has_no_nan_gradient():
    junk, none = np.full(SHAPE, np.nan, np.float32), np.zeros(SHAPE, bool)
    assert mean(junk, none) == 0.0 and var(junk, none) == 0.0 and explained(junk, junk, none) == 0.0
    np.testing.assert_array_equal(whitened(junk, none), np.zeros(SHAPE))
    for function in (mean, var, lambda x, m: whitened(x, m).sum()):
        np.testing.assert_array_equal(jax.grad(function)(junk, none), np.zeros(SHAPE))
    some = none.copy()
    some[0, :3] = True
    gradient = jax.grad(lambda x: (whitened(x, some) ** 3).sum())(np.where(some, np.arange(6.0) ** 2, np.nan))
    assert np.all(np.isfinite(gradient)) and np.any(gradient != 0)


def test_shapes_and_types_are_checked():
    with pytest.raises(AssertionError):
        masked_mean(np.ones((2, 3), np.float32), np.ones((2, 1), bool))
    with pytest.raises(AssertionError):
        whiten(np.ones((2, 3), np.float32), np.ones((2, 3), np.float32))
