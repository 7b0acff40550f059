"""Exact ratios under filters: the learner's log-probabilities are over the tokens that the sampler kept."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learners.ppo_case import mesh
from models.tiny import random_params

from stepjax.learners.own_loops import token_logprobs
from stepjax.learners.packing import PackingShape, micro_batch, pack
from stepjax.learners.score import response_logprobs, score_program
from stepjax.models import DecoderConfig, Definition, LanguageModel
from stepjax.parallel import batch_sharding, fetch, put, replicated
from stepjax.rollout.program import RolloutShape, rollout_program
from stepjax.rollout.sampling import Sampler
from stepjax.rollout.slots import Queue
from stepjax.steps import StepSplitter

CONFIG = DecoderConfig(vocab=640, layers=1, width=16, heads=2, kv_heads=1, head_dim=8, mlp=16, tied=False)
ROWS, WIDTH, NEW, EOS = 8, 3, 6, (5, 9)
SPLITTER = StepSplitter.of_bytes([b"\n" if i % 5 == 0 else b"x" for i in range(CONFIG.vocab)], "\n")
FILTERS = {
    "top_k": Sampler(0.8, top_k=5),
    "top_p and min_p": Sampler(1.0, top_p=0.6, min_p=0.02),
    "all": Sampler(1.2, top_k=8, top_p=0.9, min_p=0.01, min_tokens=3),
    "least length": Sampler(1.0, min_tokens=4),
}


@functools.cache
def policy() -> Definition[LanguageModel]:
    return Definition(lambda rngs: LanguageModel(CONFIG, rngs))


@functools.cache
def params():
    found = random_params(policy(), 3)
    return {**found, "unembedding": found["unembedding"].at[:, EOS[0]].set(0.7).at[:, EOS[1]].set(-0.7)}


@functools.cache
def scored(name: str, shape: tuple[int, int, int] = (1, 1, 1)):
    """Rows that were sampled with a filter, and scored by the policy that they were sampled from."""
    on, sampler = mesh(shape), FILTERS[name]
    rollout = rollout_program(
        policy(), on, RolloutShape(ROWS, WIDTH, NEW, halvings=0), eos=EOS, sampler=sampler, record=True
    )
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, WIDTH + 1, ROWS).astype(np.int32)
    prompts = np.where(np.arange(WIDTH) >= WIDTH - lengths[:, None], rng.integers(10, 600, (ROWS, WIDTH)), 0)
    order = np.arange(ROWS, dtype=np.int32)
    queue = Queue(order, order, np.full(ROWS, NEW, np.int32))  # type: ignore[arg-type]
    placed = jax.device_put(params(), policy().shardings(on))
    by_row = put((prompts.astype(np.int32), lengths, queue), batch_sharding(on))
    rows, _ = rollout(placed, *by_row[:2], jax.device_put(jax.random.key(1), replicated(on)), by_row[2])
    score = score_program(
        policy(), None, None, SPLITTER, on, rollout.outputs()[0], temperature=sampler.temperature, micro_tokens=30
    )
    return fetch(score(placed, placed, {}, {}, rows))


def ratios(rows) -> np.ndarray:
    return np.exp(rows.old_logprobs - rows.logprobs)[np.asarray(rows.mask)]


@pytest.mark.parametrize("name", FILTERS)
def test_ratios_before_an_update_are_1(name):
    rows = scored(name)
    assert np.asarray(rows.mask).sum() > 3 * ROWS
    np.testing.assert_allclose(ratios(rows), 1.0, atol=1e-5)
    # Of the reference, too, which is the policy here: their divergence is 0, not the log of the kept share.
    np.testing.assert_array_equal(rows.ref_logprobs, rows.old_logprobs)
    assert np.asarray(rows.entropy)[np.asarray(rows.mask)].max() <= np.log(CONFIG.vocab)


def test_without_the_record_they_are_not():
    rows, temperature = dataclasses.replace(scored("top_k"), kept=None), FILTERS["top_k"].temperature
    whole = jax.jit(lambda rows: token_logprobs(policy(), params(), rows, temperature=temperature)[0])(rows)
    found = ratios(dataclasses.replace(rows, old_logprobs=np.asarray(whole)))
    assert found.max() < 0.9 and found.min() < 0.3


def test_on_eight_devices_too(name="top_p and min_p"):
    rows = scored(name, (1, 4, 2))
    np.testing.assert_array_equal(rows.tokens, scored(name).tokens)
    np.testing.assert_allclose(ratios(rows), 1.0, atol=1e-5)
    np.testing.assert_allclose(rows.entropy, scored(name).entropy, atol=1e-5)


@pytest.mark.parametrize("name", ["all", "top_p and min_p", "least length"])
def test_a_policy_that_moved_is_normalised_over_the_same_tokens(name):
    """Probabilities and entropy of other parameters, token by token, over what the sampler kept; finite gradients."""
    rows, sampler = scored(name), FILTERS[name]
    shape = PackingShape(2 * (WIDTH + NEW), ROWS)

    @jax.jit
    def moved(rows, params):
        packed = micro_batch(rows, pack(rows, jnp.arange(ROWS), shape), jnp.int32(0), {})
        model = policy().bind(params)

        def total(params):
            found = response_logprobs(policy().bind(params), packed, temperature=sampler.temperature)
            return sum(jnp.sum(x) for x in found)

        hidden = model.trunk(packed.tokens, packed.positions, packed.segments)
        logits = model.logits(hidden) / sampler.temperature
        learned = response_logprobs(model, packed, temperature=sampler.temperature)
        return learned, jax.grad(total)(params), logits, packed

    other = jax.tree.map(lambda x: 0.8 * x, params())
    (logprobs, entropy), gradient, logits, packed = jax.device_get(moved(rows, other))
    for r, t in np.argwhere(packed.mask).tolist():
        kept = kept_ids(np.asarray(packed.kept.record[r, t]))
        scores = logits[r, t, kept].astype(np.float64)
        every = scores - np.log(np.exp(scores - scores.max()).sum()) - scores.max()
        assert logprobs[r, t] == pytest.approx(every[kept.tolist().index(packed.targets[r, t])], abs=1e-5)
        assert entropy[r, t] == pytest.approx(-(np.exp(every) * every).sum(), abs=3e-5)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))
    assert not logprobs[~packed.mask].any()


def kept_ids(record: np.ndarray) -> np.ndarray:
    """The ids of a record, by its kind."""
    if record.dtype == bool:
        return np.setdiff1d(np.arange(CONFIG.vocab), EOS if record[0] else [])
    if record.dtype == np.uint32:
        return np.flatnonzero(np.unpackbits(record.view(np.uint8), bitorder="little"))
    return record[record >= 0]
