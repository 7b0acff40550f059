"""Means over tokens, steps and responses against loops; one device against eight."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stepjax.learners.reduce import loss_weights, step_sizes
from stepjax.parallel import batch_sharding, make_mesh, put

B, T = 8, 7
quick = settings(max_examples=60, deadline=None, derandomize=True)
reals = hnp.arrays(np.float32, (B, T), elements=st.floats(-4, 4, width=16))
bools = hnp.arrays(np.bool_, (B, T))
UNITS = ("token", "step", "sequence")


def units(mask, end, unit):
    """The tokens (row, column) of each unit, by a walk over each row."""
    found = []
    for b in range(B):
        row = [[]]
        for t in np.flatnonzero(mask[b]):
            row[-1].append((b, t))
            if unit == "token" or (unit == "step" and end[b, t]):
                row.append([])
        found += [tokens for tokens in row if tokens]
    return found


@functools.cache
def reduce(unit):
    def sum_count(x, mask, end):
        weights, count = loss_weights(mask, end, unit)
        return jnp.sum(jnp.where(mask, x, 0) * weights), count

    return jax.jit(sum_count)


def mean_over(x, mask, end, unit):
    """The mean over units of the mean of x over the unit's tokens."""
    weights, count = loss_weights(mask, end, unit)
    return jnp.sum(jnp.where(mask, x, 0) * weights) / jnp.maximum(count, 1)


@pytest.mark.parametrize("unit", UNITS)
@quick
@given(reals, bools, bools)
def test_sums_and_counts_equal_a_loop(unit, x, mask, end):
    junk = np.where(mask, x, np.nan).astype(np.float32)
    total, count = reduce(unit)(junk, mask, end)
    expected = [np.mean([np.float64(x[at]) for at in tokens]) for tokens in units(mask, end, unit)]
    assert total.dtype == count.dtype == jnp.float32 and count == len(expected)
    np.testing.assert_allclose(total, np.sum(expected), rtol=1e-6, atol=1e-6)


@quick
@given(bools, bools)
def test_every_token_knows_the_size_of_its_step(mask, end):
    expected = np.zeros((B, T), int)
    for tokens in units(mask, end, "step"):
        for at in tokens:
            expected[at] = len(tokens)
    np.testing.assert_array_equal(step_sizes(mask, end), expected)


@pytest.mark.parametrize("unit", UNITS)
def test_a_gradient_is_each_tokens_share(unit):
    rng = np.random.default_rng(0)
    mask, end = rng.random((B, T)) < 0.7, rng.random((B, T)) < 0.3
    x = np.where(mask, rng.normal(size=(B, T)), np.nan).astype(np.float32)
    found = jax.grad(lambda x: mean_over(x, mask, end, unit))(x)
    expected, all_units = np.zeros((B, T)), units(mask, end, unit)
    for tokens in all_units:
        for at in tokens:
            expected[at] = 1 / len(tokens) / len(all_units)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("unit", UNITS)
def test_rows_on_eight_devices_give_the_mean_of_the_batch(unit):
    rng = np.random.default_rng(1)
    mask = rng.random((B, T)) < np.linspace(0.1, 0.9, B)[:, None]  # the devices' own means would weigh otherwise
    end, x = rng.random((B, T)) < 0.3, rng.normal(size=(B, T)).astype(np.float32)
    mesh = make_mesh(8)
    rows = put((x, mask, end), batch_sharding(mesh))
    mean = jax.jit(functools.partial(mean_over, unit=unit))
    np.testing.assert_allclose(mean(*rows), mean(x, mask, end), rtol=1e-6)


def test_units_are_checked():
    x = np.zeros((B, T), np.float32)
    with pytest.raises(ValueError, match='"token", "step", "sequence" or "fixed"'):
        mean_over(x, x > 0, x > 0, "row")
