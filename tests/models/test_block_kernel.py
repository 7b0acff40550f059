"""The TPU kernel for attention to blocks: interpreted on a CPU it agrees with the portable attention and with the
reference of jax's own kernel."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from stepjax.models import block_kernel, blocks
from stepjax.models.attention import added
from stepjax.models.block_kernel import block_sums, kernel_takes, on_own_heads
from stepjax.models.blocks import LayerBlocks, attend_to_blocks, work_list
from stepjax.models.cache import KeyValues, quantised
from stepjax.parallel import RULES

PAGE, BLOCKS = 128, 32
COUNTS = np.array([3, 0, 8, 5, 1, 0], np.int32)
SHARED = np.minimum(COUNTS, np.array([1, 0, 2, 2, 0, 0])).astype(np.int32)
START = np.array([0, 9, 127, 60, 40, 0], np.int32)
PROMPT = SHARED * PAGE + np.array([128, 5, 1, 77, 20, 3], np.int32)
POSITION = PROMPT + np.maximum((COUNTS - SHARED) * PAGE - START, 0) + 50


def table() -> np.ndarray:
    """Blocks anywhere; rows 2 and 3 have the blocks of their prompt in common."""
    names, found, at = np.random.default_rng(2).permutation(BLOCKS), np.zeros((len(COUNTS), 8), np.int32), 0
    for row, count in enumerate(COUNTS):
        found[row, :count], at = names[at : at + count], at + count
    found[3, :2] = found[2, :2]
    return found


TABLE = table()
WORK = work_list(*(jnp.asarray(x) for x in (TABLE, COUNTS, SHARED, START, PROMPT)), PAGE)


def case(kv_heads: int, group: int, dim: int, dtype, *, layers: bool, narrow: bool = False, seed: int = 0):
    """Blocks of random numbers, those of no row NaN; where `layers`, the other layer is all NaN. Queries, and sums."""
    rng = np.random.default_rng(seed)
    keys = rng.normal(size=(BLOCKS, kv_heads, dim, PAGE)).astype(np.float32)
    values = rng.normal(size=(BLOCKS, kv_heads, PAGE, dim)).astype(np.float32)
    free = np.setdiff1d(np.arange(BLOCKS), [b for row, n in zip(TABLE, COUNTS, strict=True) for b in row[:n]])
    if narrow:
        (k, key_scales), (v, value_scales) = (quantised(jnp.asarray(x)) for x in (keys.swapaxes(-1, -2), values))
        gone = (x.at[free].set(jnp.nan) for x in (key_scales, value_scales))
        stored = KeyValues(k.swapaxes(-1, -2), v, *gone)
    else:
        keys[free], values[free] = np.nan, np.nan
        stored = KeyValues(jnp.asarray(keys, dtype), jnp.asarray(values, dtype))
    if layers:
        stored = jax.tree.map(lambda x: jnp.stack([x if x.dtype == jnp.int8 else x * jnp.nan, x]), stored)
    rows = (len(COUNTS), kv_heads, group)
    queries = jnp.asarray(rng.normal(size=(*rows, dim)) * 2 * dim**-0.5, dtype)
    sums = jnp.asarray(rng.integers(-3, 3, rows), jnp.float32), jnp.asarray(rng.uniform(1, 9, rows), jnp.float32)
    return stored, queries, (*sums, jnp.asarray(rng.normal(size=(*rows, dim)), jnp.float32))


def interpreted(copies: str = "on_wait"):
    """Memory of a TPU in which nothing was written is NaN; copies are made when they are waited for (`on_wait`: what is
    read before is missing) or when they begin (`eager`: what they overwrite too early is missing)."""
    from jax.experimental.pallas import tpu as pltpu

    return pltpu.InterpretParams(uninitialized_memory="nan", dma_execution_mode=copies)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kv_heads, group, dim, dtype, window, traced, cap, layers, narrow, copies, buffers",
    [
        (2, 3, 64, jnp.float32, None, False, 0.0, True, False, "on_wait", 4),
        (1, 1, 128, jnp.float32, 200, False, 5.0, False, False, "eager", 4),
        (1, 7, 128, jnp.bfloat16, 333, True, 0.0, True, False, "eager", 2),
        (1, 2, 256, jnp.bfloat16, None, False, 30.0, False, False, "on_wait", 2),
        (2, 4, 64, jnp.bfloat16, 150, False, 0.0, True, True, "eager", 3),
    ],
)
def test_it_agrees_with_the_portable_attention(
    kv_heads, group, dim, dtype, window, traced, cap, layers, narrow, copies, buffers, monkeypatch
):
    monkeypatch.setattr(block_kernel, "MOST_BLOCKS", 2)  # rows of 3, 5 and 8 blocks take several turns
    monkeypatch.setattr(block_kernel, "BUFFERS", buffers)
    stored, queries, sums = case(kv_heads, group, dim, dtype, layers=layers, narrow=narrow)
    assert kernel_takes(stored, queries, WORK.block.shape[0])
    options = {"position": jnp.asarray(POSITION), "window": jnp.int32(window) if traced else window, "cap": cap}
    layer = jnp.int32(1) if layers else None
    wanted = jax.jit(lambda s, q, p: attend_to_blocks(LayerBlocks(s, WORK, layer), q, p, **options))(
        stored, queries, sums
    )
    own = jax.jit(lambda s, q: block_sums(s, WORK, q, layer=layer, interpret=interpreted(copies), **options))(
        stored, queries
    )
    np.testing.assert_array_equal(np.asarray(own[1])[COUNTS == 0], 0.0)
    found = added(sums, own)
    np.testing.assert_array_equal(found[0], wanted[0])
    for ours, theirs in zip(found[1:], wanted[1:], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("window, cap", [(300, 20.0)])
def test_it_agrees_with_the_reference_of_jaxs_own_kernel(window, cap, monkeypatch):
    from jax.experimental.pallas.ops.tpu.ragged_paged_attention.kernel import ref_ragged_paged_attention

    monkeypatch.setattr(block_kernel, "MOST_BLOCKS", 2)
    kv_heads, group, dim = 2, 2, 128
    stored, queries, _ = case(kv_heads, group, dim, jnp.float32, layers=False)
    nothing, rows = np.zeros_like(COUNTS), COUNTS > 0
    work = work_list(*(jnp.asarray(x) for x in (TABLE, COUNTS, COUNTS, nothing, nothing)), PAGE)
    tokens = COUNTS * PAGE  # all blocks are whole; the query is the last token
    ours = block_sums(
        stored, work, queries, position=jnp.asarray(tokens - 1), window=window, cap=cap, interpret=interpreted()
    )
    # [blocks, page, 2 K, D], keys and values of a head in turn.
    keys, values = np.moveaxis(np.asarray(stored.keys), 3, 1), np.moveaxis(np.asarray(stored.values), 2, 1)
    pages = np.stack([keys, values], axis=3).reshape(BLOCKS, PAGE, 2 * kv_heads, dim)
    wanted = ref_ragged_paged_attention(
        jnp.asarray(queries).reshape(len(COUNTS), kv_heads * group, dim)[rows],
        jnp.asarray(pages),
        jnp.asarray(tokens[rows]),
        jnp.asarray(TABLE[rows]),
        jnp.arange(rows.sum() + 1, dtype=jnp.int32),
        np.array([rows.sum()]),
        sliding_window=window,
        soft_cap=cap or None,
    )
    found = np.asarray(ours[2] / np.maximum(ours[1], 1e-30)[..., None])[rows].reshape(wanted.shape)
    np.testing.assert_allclose(found, wanted, atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kv_heads", [2, 3])
def test_devices_that_divide_the_heads_find_the_sums_of_one(kv_heads):
    """Three heads do not divide among two devices: each has all of them."""
    stored, queries, _ = case(kv_heads, 2, 64, jnp.float32, layers=True)
    options = {"position": jnp.asarray(POSITION), "layer": jnp.int32(1), "window": None, "cap": 0.0}
    options["interpret"] = interpreted()
    wanted = jax.jit(lambda s, q: block_sums(s, WORK, q, **options))(stored, queries)
    mesh = Mesh(jax.devices()[:2], RULES["kv_heads"])  # the interpreter works where every axis is divided by hand
    with jax.set_mesh(mesh):
        found = jax.jit(lambda s, q: on_own_heads(s, WORK, q, **options))(stored, queries)
    assert found[0].sharding.is_fully_replicated == (kv_heads == 3)
    np.testing.assert_array_equal(found[0], wanted[0])
    for ours, theirs in zip(found[1:], wanted[1:], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def taken(kv_heads: int, dim: int, page: int, dtype, pairs: int = 64, queries=jnp.bfloat16) -> bool:
    one = functools.partial(jax.ShapeDtypeStruct, dtype=dtype)
    stored = KeyValues(one((1, kv_heads, dim, page)), one((1, kv_heads, page, dim)))  # type: ignore[arg-type]
    return kernel_takes(stored, jax.ShapeDtypeStruct((4, kv_heads, 2, dim), queries), pairs)  # type: ignore[arg-type]


def test_what_the_kernel_takes():
    assert all(taken(2, dim, 128, dtype) for dim in (64, 128, 256) for dtype in (jnp.bfloat16, jnp.float32, jnp.int8))
    assert not taken(2, 128, 64, jnp.bfloat16), "half a tile"
    assert not taken(2, 80, 128, jnp.bfloat16)
    assert not taken(2, 128, 128, jnp.float16) and not taken(2, 128, 128, jnp.bfloat16, queries=jnp.float16)
    assert taken(2, 128, 128, jnp.bfloat16, 90_000) and not taken(2, 128, 128, jnp.bfloat16, 100_000), "the list"
    assert not taken(64, 256, 128, jnp.float32), "two copies of 16 MiB"


def test_it_is_not_for_other_devices(monkeypatch):
    monkeypatch.setattr(blocks, "on_own_heads", lambda *_, **__: pytest.fail("the TPU's kernel on a CPU"))
    stored, queries, sums = case(1, 2, 64, jnp.float32, layers=False)
    call = functools.partial(attend_to_blocks, position=jnp.asarray(POSITION), window=None)
    jax.eval_shape(call, LayerBlocks(stored, WORK, None), queries, sums)
