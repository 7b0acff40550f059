"""The portable attention of long rows, a few queries at a time: that of all queries at once, in less memory."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models.test_context import read, rows
from models.tiny import CONFIG

from stepjax.models import Definition, LanguageModel, query_chunks
from stepjax.models.attention import attend, causal_bias
from stepjax.models.query_chunks import chunked_attention, query_chunk

FAST = ("gemma2-caps", (1, 1, 1))


def test_short_rows_are_taken_whole_and_the_scores_of_long_ones_are_bounded():
    assert query_chunk(2048, 2048) == 0
    for queries, keys in ((2049, 2049), (8192, 8192), (8192, 32768), (32768, 32768), (5, 2**23)):
        assert 1 <= query_chunk(queries, keys) < queries
        assert query_chunk(queries, keys) * keys <= max(query_chunks.PAIRS, keys)


@functools.cache
def inputs(dtype=jnp.float32):
    rng, batch = np.random.default_rng(0), rows()
    q, k, v, g = (jnp.asarray(rng.normal(size=(4, heads, 32, 8)), dtype) for heads in (4, 2, 2, 4))
    return q, k, v, g, batch["positions"], batch["segments"]


@pytest.mark.parametrize(("chunk", "window", "cap"), [(7, 0, 0.0), (32, 5, 0.0), (1, 5, 3.0)])
def test_outputs_and_gradients_are_those_of_all_queries_at_once(chunk, window, cap):
    q, k, v, g, positions, segments = inputs()
    columns = positions, segments, positions, segments
    seen = (jnp.full(4, window, jnp.int32),) if window else ()

    def whole(q, k, v):
        bias = causal_bias(*columns)
        near = positions[:, :, None] - positions[:, None, :] < (window or 99)
        return attend(q, k, v, jnp.where(near, bias, -1e30), cap=cap)

    def chunked(q, k, v):
        return chunked_attention(q, k, v, *columns, *seen, chunk=chunk, cap=cap)

    inside = (segments > 0)[:, None, :, None]
    for look in (whole, chunked):
        assert look(q, k, v).shape == q.shape
    found, wanted = (
        jax.jit(jax.value_and_grad(lambda *x, f=f: jnp.sum(jnp.where(inside, f(*x) * g, 0)), (0, 1, 2)))(q, k, v)
        for f in (chunked, whole)
    )
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_gradients_of_keys_in_bfloat16_are_summed_in_float32():
    q, k, v, g, positions, segments = inputs(jnp.bfloat16)
    columns = positions, segments, positions, segments

    def gradient(chunk):
        def loss(k):
            found = chunked_attention(q, k, v, *columns, chunk=chunk)
            return jnp.sum((found * g).astype(jnp.float32))

        return jax.grad(loss)(k).astype(jnp.float32)

    np.testing.assert_allclose(gradient(1), gradient(32), rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("case", "mesh"),
    [
        pytest.param(c, m, marks=() if (c, m) == FAST else pytest.mark.slow)
        for c in ("gemma2-caps", "qwen2-window", "gemma3-alternating")
        for m in ((1, 1, 1), (2, 2, 1, 2), (1, 1, 2, 4))
    ],
)
def test_decoders_read_long_rows_as_they_read_short_ones(monkeypatch, case, mesh):
    wanted = read(case, (1, 1, 1))
    monkeypatch.setattr(query_chunks, "PAIRS", 32 * 5)
    loss, logprobs, gradient = read.__wrapped__(case, mesh)
    inside = rows()["segments"] > 0
    assert loss == pytest.approx(wanted[0], rel=1e-5)
    np.testing.assert_allclose(logprobs[inside], wanted[1][inside], atol=1e-5, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(wanted[2]), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5)


def peak(width: int) -> int:
    """Bytes beyond its arguments of a gradient over one row, as compiled for this device."""
    config = dataclasses.replace(CONFIG, remat=True, decode_apart=False)
    of = Definition(lambda rngs: LanguageModel(config, rngs))
    columns = [jax.ShapeDtypeStruct((1, width), jnp.int32)] * 3

    def loss(params, *columns):
        return jnp.sum(of.bind(params).trunk(*columns))

    return jax.jit(jax.grad(loss)).lower(of.shapes, *columns).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.slow
def test_memory_follows_the_tokens_and_not_their_pairs(monkeypatch, capsys):
    found = {width: peak(width) for width in (8192, 32768)}
    monkeypatch.setattr(query_chunks, "PAIRS", 2**40)
    whole = {width: peak(width) for width in found}
    with capsys.disabled():
        for width, size in found.items():
            print(f"\na row of {width} tokens: {size / 2**20:,.0f} MiB in chunks, {whole[width] / 2**20:,.0f} at once")
    assert found[32768] < 6 * found[8192]
    assert all(whole[width] > width**2 * 4 > found[width] for width in found)
