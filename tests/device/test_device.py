"""On the accelerator that is here: the model, the cache, sampling, credit and gradients agree with the CPU's.

    STEPJAX_TEST_PLATFORM=cuda,cpu pytest -n0 -m 'slow or not slow' tests/device

Elsewhere they are skipped: the CPU would be compared with itself. With STEPJAX_TEST_PLATFORM=cpu they run all the same.
"""

import dataclasses
import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learners.ppo_case import B, P, T
from models.tiny import CONFIG, policy, policy_params, random_params

from stepjax.credit import segment_gae
from stepjax.learners import ppo_loss
from stepjax.models import Definition, LanguageModel
from stepjax.models.attention import attend, causal_bias
from stepjax.models.cudnn import cudnn_attention
from stepjax.rollout import generate
from stepjax.trajectory import Trajectory

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("STEPJAX_TEST_PLATFORM" not in os.environ, reason="compares an accelerator with the CPU"),
]

TOKENS = np.random.default_rng(0).integers(1, CONFIG.vocab, (4, 48)).astype(np.int32)


def on(device, function, *given):
    """The result on a device, as NumPy; products of float32 in float32, which accelerators shorten otherwise."""
    with jax.default_device(device), jax.default_matmul_precision("highest"):
        return jax.tree.map(np.asarray, jax.jit(function)(*jax.device_put(given, device)))


def both(function, *given):
    return (on(device, function, *jax.device_get(given)) for device in (jax.devices()[0], jax.devices("cpu")[0]))


def near(ours, wanted, tolerance):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1.0, float(np.abs(b).max())))


def test_logits():
    near(*both(lambda p, t: policy().bind(p)(t), policy_params(), TOKENS), 1e-4)


def test_logits_in_bfloat16_are_near_those_in_float32():
    half = Definition(lambda rngs: LanguageModel(dataclasses.replace(CONFIG, dtype=jnp.bfloat16), rngs))
    here = on(jax.devices()[0], lambda p, t: half.bind(p)(t), policy_params(), TOKENS)
    there = on(jax.devices("cpu")[0], lambda p, t: policy().bind(p)(t), policy_params(), TOKENS)
    near(here, there, 0.05)


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="cuDNN needs an NVIDIA GPU")
def test_cudnn_is_the_portable_attention():
    rng = np.random.default_rng(1)
    q, k, v = (rng.normal(size=(2, h, 128, 64)).astype(jnp.bfloat16) for h in (6, 2, 2))
    positions = np.tile(np.arange(128, dtype=np.int32), (2, 1))
    segments = np.stack([np.repeat([1, 2], 64), np.repeat([0, 1], [32, 96])]).astype(np.int32)
    bias = causal_bias(positions, segments, positions, segments)
    real = (segments > 0)[:, None, :, None]

    def loss(attention, sees, *given):
        return jnp.sum(jnp.where(real, attention(*given, sees, scale=0.125).astype(jnp.float32), 0.0) ** 2)

    device = jax.devices()[0]
    found = on(device, jax.value_and_grad(functools.partial(loss, cudnn_attention, bias > -1.0), (0, 1, 2)), q, k, v)
    wanted = on(device, jax.value_and_grad(functools.partial(loss, attend, bias), (0, 1, 2)), q, k, v)
    near(*(jax.tree.map(lambda x: np.asarray(x, np.float32), x) for x in (found, wanted)), 0.03)


@functools.cache
def responses(slots):
    prompts = [row[:n].tolist() for row, n in zip(TOKENS, (1, 7, 12, 20), strict=True)]
    with jax.default_matmul_precision("highest"):
        key = jax.random.key(7)
        # A cache of blocks, as the limit of the length is far above what the responses have.
        return jax.device_get(
            generate(policy(), policy_params(), prompts, key, new_tokens=700, eos=3, samples=4, slots=slots)
        )


def test_slots_change_no_token():
    few, many = responses(4), responses(16)
    np.testing.assert_array_equal(few.tokens, many.tokens)
    np.testing.assert_allclose(few.logprobs, many.logprobs, atol=1e-4)


def test_the_sampler_s_log_probabilities_are_the_learner_s():
    found = responses(4)

    def learner(params, tokens, positions, segments):
        model = policy().bind(params)
        logprobs = jax.nn.log_softmax(model.logits(model.trunk(tokens, positions, segments)))
        return jnp.take_along_axis(logprobs[:, :-1], tokens[:, 1:, None], -1)[..., 0]

    given = policy_params(), found.tokens, found.positions, found.segments
    mask = np.asarray(found.mask)[:, 1:]
    assert mask.any()
    for wanted in both(learner, *given):
        np.testing.assert_allclose(found.logprobs[:, 1:][mask], wanted[mask], atol=1e-3)


def test_credit():
    rng = np.random.default_rng(2)
    rewards, values = rng.normal(size=(2, 8, 256)).astype(np.float32)
    mask, ends = rng.random((2, 8, 256)) < np.array([0.9, 0.1])[:, None, None]
    near(*both(functools.partial(segment_gae, gamma=0.99, lam=0.95), rewards, values, mask, ends), 1e-5)


def test_gradients():
    rng = np.random.default_rng(3)
    mask = np.zeros((B, T), bool)
    mask[:, P:] = True
    tokens = rng.integers(1, CONFIG.vocab, (B, T)).astype(np.int32)
    logprobs = np.where(mask, rng.normal(-3, 0.1, (B, T)), 0).astype(np.float32)
    rows = Trajectory(
        tokens=tokens, logprobs=logprobs, prompt_length=np.full(B, P, np.int32), prompt_width=P,
        response_length=np.full(B, T - P, np.int32), finished=np.ones(B, bool),
    )  # fmt: skip
    advantages = np.where(mask, rng.normal(size=(B, T)), 0).astype(np.float32)

    def loss(params, rows, advantages):
        return jax.value_and_grad(lambda p: ppo_loss(policy(), p, rows, advantages)[0])(params)

    near(*both(loss, random_params(policy(), 5), rows, advantages), 1e-3)
