"""Splash attention: interpreted on the CPU it agrees with XLA's, and it compiles for a TPU that is not there."""

import dataclasses
import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models.tiny import CONFIG, policy_params

from stepjax.models import Definition, LanguageModel, attention_context
from stepjax.models.attention import attend, causal_bias
from stepjax.models.rope import Rope
from stepjax.models.splash import splash_attention
from stepjax.parallel import batch_sharding, make_mesh, row_parts
from stepjax.row_parts import cut, joined

B, H, K, T, D = 4, 4, 2, 150, 16
RNG = np.random.default_rng(0)
Q, KEYS, VALUES, OUT = (RNG.normal(size=(B, h, T, D)).astype(np.float32) for h in (H, K, K, H))
SEGMENTS = np.ones((B, T), np.int32)
SEGMENTS[0, :30] = 0  # left padding
SEGMENTS[1, 100:] = 0  # right padding
SEGMENTS[2] = np.repeat([1, 2, 3], 50)
POSITIONS = np.broadcast_to(np.arange(T, dtype=np.int32), (B, T))
REAL = (SEGMENTS > 0)[:, None, :, None]


def by_xla(q, k, v, window, cap):
    bias = causal_bias(POSITIONS, SEGMENTS, POSITIONS, SEGMENTS)
    if window:
        bias = jnp.where(POSITIONS[:, :, None] - POSITIONS[:, None, :] < window, bias, -1e30)
    return attend(q, k, v, bias, cap=cap, scale=0.3)


def by_splash(q, k, v, window, cap):
    return splash_attention(q, k, v, SEGMENTS, window=window, cap=cap, scale=0.3, interpret=True)


def with_gradients(attention, window, cap):
    def total(q, k, v):
        out = jnp.where(REAL, attention(q, k, v, window, cap), 0.0)
        return jnp.sum(out * OUT), out

    return jax.jit(jax.value_and_grad(total, (0, 1, 2), has_aux=True))


@pytest.mark.parametrize("window, cap, mesh", [(0, 0.0, (1, 1, 1)), (40, 2.0, (2, 2, 2))])
def test_it_agrees_with_xla(window, cap, mesh):
    (_, wanted), wanted_gradients = with_gradients(by_xla, window, cap)(Q, KEYS, VALUES)
    with jax.set_mesh(make_mesh(*mesh)):
        (_, found), gradients = with_gradients(by_splash, window, cap)(Q, KEYS, VALUES)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(gradients, wanted_gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)
        assert np.abs(theirs).max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("parts, window, cap, mesh", [(2, 0, 0.0, (1, 2, 2, 2)), (4, 40, 2.0, (2, 1, 1, 4))])
def test_rows_that_are_cut_agree_with_whole_ones(parts, window, cap, mesh):
    """Queries of each part know their columns, keys stand in their rows' order; 38 tokens fill no whole block."""
    width = 8 * 19
    rows = [np.pad(x, ((0, 0), (0, 0), (0, width - T), (0, 0))) for x in (Q, KEYS, VALUES, OUT)]
    segments, real = np.pad(SEGMENTS, ((0, 0), (0, width - T))), np.pad(REAL, ((0, 0), (0, 0), (0, width - T), (0, 0)))

    def in_parts(x):
        return np.swapaxes(cut(np.swapaxes(x, 1, 2), parts), 1, 2)

    (_, wanted), wanted_gradients = with_gradients(by_xla, window, cap)(Q, KEYS, VALUES)

    def total(q, k, v):
        more = {"window": window, "cap": cap, "scale": 0.3, "parts": parts, "interpret": True}
        out = jnp.where(in_parts(real), splash_attention(q, k, v, cut(segments, parts), **more), 0.0)
        return jnp.sum(out * in_parts(rows[3])), out

    with jax.set_mesh(make_mesh(*mesh)):
        run = jax.jit(jax.value_and_grad(total, (0, 1, 2), has_aux=True))
        (_, found), gradients = run(*(in_parts(x) for x in rows[:3]))
    for ours, theirs in zip((found, *gradients), (wanted, *wanted_gradients), strict=True):
        whole = np.swapaxes(joined(np.swapaxes(np.asarray(ours), 1, 2), parts), 1, 2)[:, :, :T]
        np.testing.assert_allclose(whole, theirs, rtol=1e-4, atol=1e-5)


@functools.cache
def hidden(config):
    """Hidden states of a decoder, and the parameters' gradient of their first column's sum."""
    tokens = np.random.default_rng(1).integers(0, config.vocab, (2, 20)).astype(np.int32)
    positions = np.broadcast_to(np.arange(20, dtype=np.int32), (2, 20))
    definition = Definition(lambda rngs: LanguageModel(config, rngs))

    def total(params):
        found = definition.bind(params).trunk(tokens, positions, np.ones_like(tokens))
        return jnp.sum(found[..., 0]), found

    (_, found), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(policy_params())
    return np.asarray(found), gradient


@pytest.mark.parametrize(
    "policy", [*(pytest.param(p, marks=pytest.mark.slow) for p in ("full", "dots")), "weight_dots"]
)
def test_a_whole_decoder_with_windows_of_its_own_a_layer_and_any_rematerialisation(policy, monkeypatch):
    sizes = {"windows": (0, 5), "attention_cap": 3.0, "local_rope": Rope(50.0), "query_scale": 0.5}
    config = dataclasses.replace(CONFIG, **sizes)
    wanted, wanted_gradient = hidden(config)
    same = {"remat": True, "remat_policy": policy}
    if policy == "full":  # the kernel is slow to interpret: once is enough
        monkeypatch.setattr(attention_context, "splash_attention", functools.partial(splash_attention, interpret=True))
        same["attention"] = "splash"
    found, gradient = hidden(dataclasses.replace(config, **same))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), gradient, wanted_gradient)


WINDOWS = {"windows": (0, 64), "attention_cap": 30.0}


def tpu_mesh(sizes):
    from jax.experimental import topologies

    # Off a TPU, libtpu asks the cloud what machine this is, unless it is told.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_WORKER_ID", "0")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # it touches no device: several tests may compile at once
    try:
        topology = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2")
    except Exception as error:  # another libtpu holds the lock, or it has no such topology
        pytest.skip(f"no TPU topology: {str(error)[:100]}")
    return make_mesh(*sizes, devices=topology.devices)


@pytest.mark.slow
@pytest.mark.usefixtures("libtpu")
@pytest.mark.parametrize(
    "changes, sizes",
    [
        ({}, (1, 2, 2)),
        (WINDOWS, (1, 2, 2)),
        (WINDOWS, (1, 1, 2, 2)),
        ({"remat_policy": "offload"}, (1, 1, 2, 2)),
    ],
)
def test_a_training_step_compiles_for_v5e(changes, sizes):
    mesh = tpu_mesh(sizes)
    parts = row_parts(mesh)
    sizes = {"width": 256, "head_dim": 64, "dtype": jnp.bfloat16, "remat": True, "attention": "splash"}
    config = dataclasses.replace(CONFIG, **sizes, **changes)
    definition = Definition(lambda rngs: LanguageModel(config, rngs))

    def loss(params, tokens):
        model = definition.bind(params)
        return model.logits(model.trunk(tokens, tokens, tokens, parts=parts)).mean()

    shardings = definition.shardings(mesh)
    params = jax.tree.map(lambda s, d: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=d), definition.shapes, shardings)
    tokens = jax.ShapeDtypeStruct((4 * parts, 600 // parts), jnp.int32, sharding=batch_sharding(mesh))
    with jax.set_mesh(mesh):
        lowered = jax.jit(jax.grad(loss)).lower(params, tokens)
    compiled = lowered.compile()
    text = compiled.as_text()
    assert "tpu_custom_call" in text and "splash" in text
    offloaded = compiled.memory_analysis().host_temp_size_in_bytes
    assert (offloaded > 0) == ("remat_policy" in changes)
