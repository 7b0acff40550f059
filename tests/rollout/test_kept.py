"""Records of what a sampler's filters kept: exact, the smallest, and the policy gradient of the filtered policy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stepjax.kept import TIES, Kept, KeptBesidesEnds, KeptBits, KeptIds
from stepjax.parallel import make_mesh, named_sharding
from stepjax.rollout.sampling import Sampler

VOCAB, ENDS, ROWS = 640, (3, 9), 32
CASES = {
    "ids": (Sampler(0.8, top_k=5), KeptIds(5 + TIES)),
    "ids of all filters": (Sampler(1.3, 7, 0.8, 0.05, min_tokens=3), KeptIds(7 + TIES)),
    "bits": (Sampler(1.0, top_p=0.9, min_tokens=3), KeptBits(VOCAB)),
    "bits of a large k": (Sampler(1.0, top_k=20), KeptBits(VOCAB)),
    "ends": (Sampler(0.7, min_tokens=3), KeptBesidesEnds(ENDS)),
}


@functools.cache
def logits() -> np.ndarray:
    found = np.random.default_rng(0).normal(0, 2, (ROWS, VOCAB)).astype(np.float32)
    found[:, ENDS] += 6.0  # likely, so that it matters whether they are forbidden
    return found


def drawn(sampler: Sampler, form, scores, time=None):
    keys = jax.random.split(jax.random.key(3), len(scores))
    time = jnp.arange(len(scores)) % 6 if time is None else time
    return jax.jit(lambda k, x: sampler.draw(k, x, time=time, eos=ENDS, form=form))(keys, jnp.asarray(scores))


@pytest.mark.parametrize("name", CASES)
def test_the_record_gives_back_what_was_kept(name):
    sampler, form = CASES[name]
    assert sampler.kept_form(VOCAB, ENDS) == form
    tokens, logprobs, record = drawn(sampler, form, logits())
    assert record.shape == (ROWS, form.words) and record.dtype == form.dtype
    wanted = np.asarray(sampler.scores(jnp.asarray(logits()), time=jnp.arange(ROWS) % 6, eos=ENDS))
    found = np.asarray(Kept(record, form).restrict(jnp.asarray(logits()) / sampler.temperature, tokens))
    for row in range(ROWS):
        kept = np.sort(wanted[row][np.isfinite(wanted[row])])
        np.testing.assert_allclose(np.sort(found[row][found[row] > -1e29]), kept, rtol=1e-6)
    plain = sampler(jax.random.split(jax.random.key(3), ROWS), logits(), time=jnp.arange(ROWS) % 6, eos=ENDS)
    np.testing.assert_array_equal(tokens, plain[0])
    np.testing.assert_allclose(logprobs, plain[1], atol=1e-6)


def test_nothing_is_recorded_where_nothing_is_left_out():
    for sampler in (Sampler(0.7), Sampler(0.0, top_k=4), Sampler(1.0, top_k=VOCAB)):
        assert sampler.kept_form(VOCAB, ENDS) is None
    assert Sampler(min_tokens=3).kept_form(VOCAB) is None  # nothing ends a response


def test_more_ties_than_the_record_has_room_for_are_not_drawn():
    form, few = KeptIds(2 + TIES), np.full((4000, VOCAB), -3.0, np.float32)
    few[:, 7 : 7 + 5 * TIES] = 1.0
    tokens, logprobs, record = drawn(Sampler(top_k=2), form, few)
    np.testing.assert_array_equal(np.asarray(record), np.tile(np.arange(7, 9 + TIES), (4000, 1)))
    assert set(np.asarray(tokens).tolist()) == set(range(7, 9 + TIES))
    np.testing.assert_allclose(logprobs, -np.log(2 + TIES), atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_the_learners_gradient_is_that_of_what_the_filtered_policy_earns(name):
    """Σ over tokens of π(a)·A(a)·∇log π(a), with the learner's log π, against differences of Σ π(a)·A(a) in float64,
    for which the sampler filters the moved logits anew."""
    sampler, form = CASES[name]
    row = logits()[0].astype(np.float64)
    gain = np.random.default_rng(1).normal(size=VOCAB)
    time = jnp.zeros(1, jnp.int32)
    filtered = jax.jit(lambda row: jnp.isfinite(sampler.scores(row[None], time=time, eos=ENDS))[0])
    kept = np.asarray(filtered(row.astype(np.float32)))

    def earned(row: np.ndarray) -> float:
        assert (np.asarray(filtered(row.astype(np.float32))) == kept).all()  # a small change keeps the same tokens
        weight = np.where(kept, np.exp(row / sampler.temperature), 0.0)
        return float(weight @ gain / weight.sum())

    _, _, record = drawn(sampler, form, row[None].astype(np.float32), time=time)
    tokens = jnp.flatnonzero(kept)

    @jax.jit
    def learned(row):
        def logprobs(row):
            scaled = jnp.broadcast_to(row / sampler.temperature, (len(tokens), VOCAB))
            held = Kept(jnp.broadcast_to(record, (len(tokens), form.words)), form)
            normaliser = jax.nn.logsumexp(held.restrict(scaled, tokens), axis=-1)
            return scaled[0, tokens] - normaliser

        weight = jax.lax.stop_gradient(jnp.exp(logprobs(row))) * gain[np.asarray(tokens)]
        return jax.grad(lambda row: jnp.sum(weight * logprobs(row)))(row)

    found = np.asarray(learned(jnp.asarray(row, jnp.float32)))
    for i in [*np.argsort(-row)[:4].tolist(), 5, 11]:
        step = 1e-4 * np.eye(VOCAB)[i]
        assert found[i] == pytest.approx((earned(row + step) - earned(row - step)) / 2e-4, abs=2e-6)
    assert not found[~kept].any()


@pytest.mark.parametrize("name", ["ids", "bits"])
def test_a_divided_vocabulary_is_recorded_alike(name):
    sampler, form = CASES[name]
    placed = jax.device_put(logits(), named_sharding(make_mesh(4, 1, 2), ("batch", "vocab"), logits().shape))
    for found, wanted in zip(drawn(sampler, form, placed), drawn(sampler, form, logits()), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)
