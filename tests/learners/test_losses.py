"""Token losses against their formulas in float64; gradients against closed forms and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stepjax.credit.divergence import kl_estimate
from stepjax.learners.losses import classification_loss, ppo_clip, value_loss

B, T, C = 4, 6, 3
quick = settings(max_examples=50, deadline=None, derandomize=True)
logs = hnp.arrays(np.float32, (B, T), elements=st.floats(-6, 0, width=16))
reals = hnp.arrays(np.float32, (B, T), elements=st.floats(-4, 4, width=16))
masks = hnp.arrays(np.bool_, (B, T))
LOW, HIGH, DUAL, VALUE_CLIP = 0.2, 0.3, 3.0, 0.25


@jax.jit
def ppo(logprobs, old, advantages, mask):
    return ppo_clip(logprobs, old, advantages, clip_low=LOW, clip_high=HIGH, dual_clip=DUAL, mask=mask)


@jax.jit
def ppo_gradient(logprobs, old, advantages, mask):
    return jax.grad(lambda x: jnp.sum(ppo(x, old, advantages, mask)[0]))(logprobs)


@jax.jit
def value(values, old, returns, mask):
    return value_loss(values, old, returns, clip=VALUE_CLIP, mask=mask)


kl = jax.jit(kl_estimate, static_argnums=2)
classify = jax.jit(classification_loss)


def ppo_token(log_ratio, advantage):
    """(loss, gradient by logπ, clipped?) of one token, by cases."""
    ratio = np.exp(np.clip(log_ratio, -20, 20))
    loss = max(-advantage * ratio, -advantage * min(max(ratio, 1 - LOW), 1 + HIGH))
    clipped = (advantage > 0 and ratio > 1 + HIGH) or (advantage < 0 and ratio < 1 - LOW)
    if advantage < 0 and loss > -DUAL * advantage:
        loss, clipped = -DUAL * advantage, True
    return loss, 0.0 if clipped or abs(log_ratio) > 20 else -advantage * ratio, clipped


@quick
@given(logs, logs, reals, masks)
def test_ppo_clip_and_its_gradient(logprobs, old, advantages, mask):
    (loss, aux), gradient = (f(logprobs, old, advantages, mask) for f in (ppo, ppo_gradient))
    assert loss.dtype == jnp.float32 and aux["clipped"].dtype == bool
    log_ratio = (logprobs - old).astype(np.float64)
    np.testing.assert_allclose(np.asarray(aux["ratio"])[mask], np.exp(log_ratio[mask]), rtol=1e-6)
    for at in np.ndindex(B, T):
        expected = ppo_token(log_ratio[at], float(advantages[at])) if mask[at] else (0.0, 0.0, False)
        near_an_edge = np.min(np.abs(np.exp(log_ratio[at]) - np.array([1 - LOW, 1 + HIGH, DUAL]))) < 1e-5
        np.testing.assert_allclose(loss[at], expected[0], rtol=1e-6, atol=1e-6)
        if not near_an_edge:
            np.testing.assert_allclose(gradient[at], expected[1], rtol=1e-6, atol=1e-6)
            assert bool(aux["clipped"][at]) == expected[2]


def test_ppo_at_the_sampling_policy_is_the_policy_gradient():
    logprobs = -np.arange(B * T, dtype=np.float32).reshape(B, T)
    advantages = np.linspace(-2, 2, B * T, dtype=np.float32).reshape(B, T)
    mask = np.ones((B, T), bool)
    loss, aux = ppo(logprobs, logprobs, advantages, mask)
    np.testing.assert_array_equal(loss, -advantages)
    np.testing.assert_array_equal(aux["ratio"], 1.0)
    assert not np.any(aux["clipped"])
    np.testing.assert_allclose(ppo_gradient(logprobs, logprobs, advantages, mask), -advantages, rtol=1e-6)


def test_ppo_log_ratio_is_clamped():
    logprobs, old = np.array([[0.0, -1000.0]], np.float32), np.array([[-1000.0, 0.0]], np.float32)
    loss, aux = ppo_clip(logprobs, old, np.array([[-1.0, 1.0]], np.float32), clip_low=0.2, clip_high=0.2)
    np.testing.assert_allclose(aux["ratio"], np.exp([[20.0, -20.0]]), rtol=1e-6)
    np.testing.assert_allclose(loss, [[np.exp(20.0), -np.exp(-20.0)]], rtol=1e-6)


def test_ppo_dual_clip_bounds_only_negative_advantages():
    old, logprobs = np.full((1, 2), -5, np.float32), np.zeros((1, 2), np.float32)
    advantages = np.array([[-2.0, 2.0]], np.float32)
    plain, _ = ppo_clip(logprobs, old, advantages, clip_low=0.2, clip_high=0.2)
    dual, _ = ppo_clip(logprobs, old, advantages, clip_low=0.2, clip_high=0.2, dual_clip=3.0)
    np.testing.assert_allclose(plain, [[2 * np.exp(5.0), -2.4]], rtol=1e-6)
    np.testing.assert_allclose(dual, [[6.0, -2.4]], rtol=1e-6)


@quick
@given(reals, reals, reals, masks)
def test_value_loss_and_its_gradient(values, old, returns, mask):
    v, o, r = (x.astype(np.float64) for x in (values, old, returns))
    bounded = np.clip(v, o - VALUE_CLIP, o + VALUE_CLIP)
    expected = 0.5 * np.maximum((v - r) ** 2, (bounded - r) ** 2)
    np.testing.assert_allclose(value(values, old, returns, mask), np.where(mask, expected, 0), rtol=1e-6, atol=1e-6)
    gradient = jax.grad(lambda x: value(x, old, returns, mask).sum())(values)
    inside = np.abs(v - o) < VALUE_CLIP - 1e-3
    outside = np.abs(v - o) > VALUE_CLIP + 1e-3
    plain = (v - r) ** 2 - (bounded - r) ** 2
    by_clip = outside & (plain < -1e-3)  # the bounded term is larger: no gradient
    by_plain = inside | (outside & (plain > 1e-3))
    np.testing.assert_allclose(np.asarray(gradient)[mask & by_plain], (v - r)[mask & by_plain], rtol=1e-6, atol=1e-6)
    assert not np.any(np.asarray(gradient)[by_clip | ~mask])


def test_value_loss_without_a_clip():
    values, returns = np.array([1.0, 3.0], np.float32), np.array([2.0, -1.0], np.float32)
    np.testing.assert_allclose(value_loss(values, values + 9, returns, clip=None), [0.5, 8.0])


@pytest.mark.parametrize("kind, formula, slope", [
    ("k1", lambda x: -x, lambda x: np.ones_like(x)),
    ("k2", lambda x: x**2 / 2, lambda x: -x),
    ("k3", lambda x: np.exp(x) - 1 - x, lambda x: 1 - np.exp(x)),
])  # fmt: skip
@quick
@given(logs, logs, masks)
def test_kl_estimates_and_their_gradients(kind, formula, slope, logprobs, ref, mask):
    x = ref.astype(np.float64) - logprobs
    np.testing.assert_allclose(kl(logprobs, ref, kind, mask=mask), np.where(mask, formula(x), 0), rtol=1e-6, atol=1e-6)
    gradient = jax.grad(lambda p: kl(p, ref, kind, mask=mask).sum())(logprobs)
    np.testing.assert_allclose(gradient, np.where(mask, slope(x), 0), rtol=1e-6, atol=1e-6)


def test_kl_estimates_have_the_divergence_as_their_mean():
    """Exact sums over a small vocabulary: E[k1] = E[k3] = KL; the gradient of E[k2] at fixed samples is KL's."""
    p, q = (np.log(x).astype(np.float32) for x in ([0.5, 0.3, 0.2], [0.2, 0.2, 0.6]))
    divergence = np.sum(np.exp(p) * (p - q))
    for kind in ("k1", "k3"):
        np.testing.assert_allclose(np.sum(np.exp(p) * kl(p, q, kind)), divergence, rtol=1e-6)
    logits = jnp.asarray(p)
    exact = jax.grad(lambda z: jnp.sum(jax.nn.softmax(z) * (jax.nn.log_softmax(z) - q)))(logits)
    sampled = jax.grad(lambda z: jnp.sum(np.exp(p) * kl(jax.nn.log_softmax(z), q, "k2")))(logits)
    np.testing.assert_allclose(sampled, exact, atol=1e-6)


def test_kl_stays_finite_and_kinds_are_checked():
    far = np.array([-1e4, 0.0], np.float32)
    assert np.all(np.isfinite(kl(far, far[::-1], "k3")))
    with pytest.raises(ValueError, match='"k1", "k2" or "k3"'):
        kl_estimate(far, far, "k4")


@quick
@given(hnp.arrays(np.float32, (B, T, C), elements=st.floats(-8, 8, width=16)),
       hnp.arrays(np.int32, (B, T), elements=st.integers(0, C - 1)), masks)  # fmt: skip
def test_classification_loss_and_its_gradient(logits, labels, mask):
    probabilities = np.exp(logits.astype(np.float64))
    probabilities /= probabilities.sum(-1, keepdims=True)
    expected = -np.log(np.take_along_axis(probabilities, labels[..., None], -1)[..., 0])
    marked = np.where(mask, labels, -100)
    np.testing.assert_allclose(classify(logits, marked, mask), np.where(mask, expected, 0), rtol=1e-6, atol=1e-6)
    gradient = jax.grad(lambda x: classify(x, marked, mask).sum())(logits)
    np.testing.assert_allclose(gradient, (probabilities - np.eye(C)[labels]) * mask[..., None], rtol=1e-6, atol=1e-6)


def test_a_label_that_is_no_class_is_not_silent():
    for label in (-1, -100, C):
        assert np.isnan(classification_loss(np.zeros((1, C), np.float32), np.array([label]), np.array([True]))[0])


def test_labels_and_masks_keep_their_types():
    logits, labels, mask = np.zeros((2, C), np.float32), np.zeros(2, np.int32), np.ones(2, bool)
    with pytest.raises(AssertionError):
        classification_loss(logits, labels.astype(np.float32), mask)  # a soft label is not a class
    with pytest.raises(AssertionError):
        classification_loss(logits, labels, mask.astype(np.int32))
    with pytest.raises(AssertionError):
        classification_loss(logits, labels[:1], mask[:1])
    with pytest.raises(AssertionError):
        value_loss(logits, logits, logits[:, :1], clip=None)


def losses_of(x, mask):
    """Every loss as a function of one array, other inputs being the same array, shifted."""
    logits = jnp.stack([x, 0.5 * x, -x], axis=-1)
    return {
        "ppo": ppo(x, x - 0.1, x + 1, mask)[0],
        "value": value(x, x - 0.1, x + 1, mask),
        "plain value": value_loss(x, x, x + 1, clip=None, mask=mask),
        **{kind: kl(x, x - 0.1, kind, mask=mask) for kind in ("k1", "k2", "k3")},
        "classification": classify(logits, jnp.zeros((B, T), jnp.int32), mask),
    }


@jax.jit
def all_losses(x, mask):
    return {k: jnp.sum(jnp.where(mask, v, 0.0)) for k, v in losses_of(x, mask).items()}


all_gradients = jax.jit(jax.jacrev(all_losses))


@pytest.mark.parametrize("junk", [np.nan, np.inf, -np.inf, 1e38])
@pytest.mark.parametrize("kept", [0.0, 0.5])
def test_what_is_masked_out_reaches_neither_value_nor_gradient(junk, kept):
    rng = np.random.default_rng(0)
    x, mask = -rng.random((B, T)).astype(np.float32), rng.random((B, T)) < kept
    noisy = np.where(mask, x, np.float32(junk))
    for clean, found in zip(*(jax.tree.leaves(all_losses(a, mask)) for a in (x, noisy)), strict=True):
        assert clean == found and (kept or found == 0.0)
    for clean, found in zip(*(jax.tree.leaves(all_gradients(a, mask)) for a in (x, noisy)), strict=True):
        np.testing.assert_array_equal(clean, found)
        assert not np.any(np.asarray(found)[~mask])


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_low_precision_is_computed_in_float32(dtype):
    x = jnp.asarray(-np.random.default_rng(1).random((B, T)), dtype)
    mask = np.ones((B, T), bool)
    wide = losses_of(x.astype(jnp.float32), mask)["plain value"]
    low = losses_of(x, mask)["plain value"]
    assert low.dtype == jnp.float32
    np.testing.assert_allclose(low, wide, rtol=2e-2)
    loss, _ = ppo(x, x, x, mask)
    assert loss.dtype == jnp.float32
    np.testing.assert_array_equal(loss, -x.astype(jnp.float32))


def test_gradients_match_finite_differences():
    rng = np.random.default_rng(3)
    x, mask = -rng.random((B, T)).astype(np.float32), rng.random((B, T)) < 0.7
    direction = rng.normal(size=(B, T)).astype(np.float32)
    # The other arguments are constants here: the gradient is taken in x alone.
    terms = {
        "ppo": lambda z: ppo(z, x + 0.05, x + 0.7, mask)[0],
        "value": lambda z: value(z, x + 0.05, x + 0.7, mask),
        "k3": lambda z: kl(z, x + 0.3, "k3", mask=mask),
    }
    h = 1e-3
    for name, term in terms.items():
        slope = jnp.vdot(jax.grad(lambda z, term=term: term(z).sum())(x), direction)
        # Added up in float64: the difference of two float32 sums would be mostly rounding.
        numeric = (np.asarray(term(x + h * direction), np.float64) - np.asarray(term(x - h * direction))).sum() / (
            2 * h
        )
        np.testing.assert_allclose(slope, numeric, rtol=5e-3, atol=5e-3, err_msg=name)
