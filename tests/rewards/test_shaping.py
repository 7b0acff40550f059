"""Shaping against loops over each row's valid steps, and by what it is for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stepjax.credit import segment_gae
from stepjax.rewards import best_of, bound, clip, delta, early, min_form, share

B, S = 4, 7
quick = settings(max_examples=60, deadline=None, derandomize=True)
scores_ = hnp.arrays(np.float32, (B, S), elements=st.floats(-4, 4, width=16))
masks = hnp.arrays(np.bool_, (B, S))
ETA, TAU, LOW, HIGH, COUNT = 0.25, 0.5, 0.5, 1.5, 4
SIZES = np.random.default_rng(0).integers(1, 9, (B, S))  # tokens of each step

SHAPINGS = {
    "clip": jax.jit(lambda scores, mask: clip(scores, mask, eta=ETA)),
    "delta": jax.jit(delta),
    "min_form": jax.jit(lambda scores, mask: min_form(scores, mask, temperature=TAU)),
    "bound": jax.jit(lambda scores, mask: bound(scores, mask, low=LOW, high=HIGH)),
    "best_of": jax.jit(lambda scores, mask: best_of(scores, mask, count=COUNT)),
    "early": jax.jit(early),
    "share": jax.jit(lambda scores, mask: share(scores, mask, sizes=jnp.asarray(SIZES))),
}


def clip_row(r):
    return [min(x - ETA, 0.0) for x in r]


def delta_row(r):
    last = len(r)
    return [r[k - 1] - r[k] if k < last - 1 else (r[k - 1] if k == last - 1 else 0.0) for k in range(1, last + 1)]


def min_form_row(r):
    weights = np.exp(-np.asarray(r) / TAU)
    return weights / weights.sum() * r if len(r) else []


def bound_row(r):
    return [min(max(x, LOW), HIGH) for x in r]


def best_of_row(r):
    return [1 - (1 - min(max(x, 0.0), 1.0)) ** COUNT for x in r]


def early_row(r):
    return [x * np.exp(1 - k / (len(r) - 1)) if x < 0 and len(r) > 1 else x for k, x in enumerate(r)]


def share_row(r, sizes=None):
    total = sum(r)
    return [sum(sizes) * x / (n * total) if total > 0 else 1.0 for x, n in zip(r, sizes, strict=True)]


ROWS = {"clip": clip_row, "delta": delta_row, "min_form": min_form_row, "bound": bound_row}
ROWS |= {"best_of": best_of_row, "early": early_row, "share": share_row}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@quick
@given(scores_, masks)
def test_equals_a_loop_over_the_valid_steps(name, dtype, scores, mask):
    scores = np.abs(scores) if name == "share" else scores
    scores = jnp.asarray(np.where(mask, scores, np.nan), dtype)
    found = SHAPINGS[name](scores, mask)
    assert found.dtype == jnp.float32
    expected = np.zeros((B, S))
    for b in range(B):
        more = {"sizes": SIZES[b, mask[b]]} if name == "share" else {}
        expected[b, mask[b]] = ROWS[name](np.asarray(scores, np.float64)[b, mask[b]], **more)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert np.all(np.asarray(found)[~mask] == 0.0)


def test_delta_by_hand():
    scores = np.array([[0.9, 0.2, 0.7, 9.0], [0.9, 9.0, 9.0, 9.0], [0.9, 0.2, 9.0, 9.0]], np.float32)
    mask = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0]], bool)
    expected = [[0.7, 0.2, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.9, 0.0, 0.0, 0.0]]
    np.testing.assert_allclose(delta(scores, mask), expected, atol=1e-6)
    empty = delta(np.ones((2, 0), np.float32), np.ones((2, 0), bool))
    assert empty.shape == (2, 0)


@quick
@given(scores_, hnp.arrays(np.int32, (B,), elements=st.integers(0, S)), hnp.arrays(np.bool_, (B,)))
def test_delta_is_step_credit_plus_outcome_credit(scores, steps, correct):
    """γ = λ = 1, no critic, one token a step: equal on all steps but the last, which has the outcome alone."""
    mask = np.arange(S) < steps[:, None]
    last = np.arange(S) == steps[:, None] - 1
    outcome = np.where(last & correct[:, None], np.float32(1), np.float32(0))
    zeros, full = np.zeros((B, S), np.float32), {"gamma": 1.0, "lam": 1.0}
    shaped = np.asarray(SHAPINGS["delta"](scores, mask)) + outcome
    together, _ = segment_gae(shaped, zeros, mask, mask, **full, boundary_discount=1.0)
    process, _ = segment_gae(np.where(mask, scores, 0), zeros, mask, mask, **full, boundary_discount=0.0)
    result, _ = segment_gae(outcome, zeros, mask, mask, **full, boundary_discount=1.0)
    expected = np.where(last, result, process + result)
    np.testing.assert_allclose(together, expected, atol=1e-5)


@quick
@given(scores_, masks)
def test_delta_total_does_not_grow_with_steps(scores, mask):
    totals = np.asarray(SHAPINGS["delta"](scores, mask)).sum(axis=1)
    for b in range(B):
        valid = scores[b, mask[b]]
        np.testing.assert_allclose(totals[b], valid[0] if len(valid) > 1 else 0.0, atol=1e-5)


@quick
@given(scores_, masks)
def test_clip_never_pays(scores, mask):
    assert np.all(np.asarray(SHAPINGS["clip"](scores, mask)) <= 0.0)


@quick
@given(hnp.arrays(np.int32, (B, S), elements=st.integers(-20, 20), unique=True), masks)
def test_min_form_at_small_temperature_sums_to_the_minimum(tenths, mask):
    scores = (tenths / 10).astype(np.float32)
    found = np.asarray(min_form(scores, mask, temperature=0.004))  # the runner-up, 0.1 off, weighs e^−25
    for b in range(B):
        if mask[b].any():
            worst = np.flatnonzero(mask[b])[np.argmin(scores[b, mask[b]])]
            np.testing.assert_allclose(found[b].sum(), scores[b, worst], atol=1e-5)
            np.testing.assert_allclose(found[b, worst + 1 :], 0.0, atol=1e-5)


@pytest.mark.parametrize("temperature", [1e-3, 1e-20, 1e-30])
def test_min_form_at_the_smallest_temperatures_is_the_minimum(temperature):
    scores = np.array([[0.9, -0.5, 3.0, -7.0], [2.0, 1.0, 1.0, 0.0], [5.0, 6.0, 7.0, 8.0]], np.float32)
    mask = np.array([[1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]], bool)
    found = min_form(scores, mask, temperature=temperature)
    np.testing.assert_allclose(found, [[0.0, -0.5, 0.0, 0.0], [0.0, 0.5, 0.5, 0.0], [0.0] * 4], atol=1e-6)


def test_a_missing_step_is_never_the_minimum():
    scores = np.array([[0.9, 0.8, 0.0, 0.0]], np.float32)
    mask = np.array([[True, True, False, False]])
    np.testing.assert_allclose(min_form(scores, mask, temperature=0.001)[0], [0.0, 0.8, 0.0, 0.0], atol=1e-6)


@pytest.mark.parametrize("name", ROWS)
def test_a_batch_without_steps_gives_zero(name):
    junk, none = np.full((B, S), np.nan, np.float32), np.zeros((B, S), bool)
    np.testing.assert_array_equal(SHAPINGS[name](junk, none), np.zeros((B, S)))
    gradient = jax.grad(lambda x: SHAPINGS[name](x, none).sum())(junk)
    np.testing.assert_array_equal(gradient, np.zeros((B, S)))


def test_shapes_and_types_are_checked():
    ones, full = np.ones((B, S), np.float32), np.ones((B, S), bool)
    with pytest.raises(AssertionError):
        delta(ones, full[:, :-1])
    with pytest.raises(AssertionError):
        delta(ones.astype(np.int32), full)
    with pytest.raises(AssertionError):
        clip(ones, ones, eta=0.5)
    with pytest.raises(AssertionError):
        min_form(ones[0], full[0], temperature=0.1)


def test_shares_keep_the_mean_over_tokens():
    """DRACO's figures: two and four tokens, qualities 0.75 and 0.25 and the other way round."""
    sizes, mask = np.array([[2, 4], [2, 4]]), np.ones((2, 2), bool)
    found = share(np.array([[0.75, 0.25], [0.25, 0.75]], np.float32), mask, sizes=sizes)
    np.testing.assert_allclose(found, [[2.25, 0.375], [0.75, 1.125]], rtol=1e-6)
    np.testing.assert_allclose((found * sizes).sum(1), 6, rtol=1e-6)
    assert share(np.zeros((2, 2), np.float32), mask, sizes=sizes).tolist() == [[1, 1], [1, 1]]
