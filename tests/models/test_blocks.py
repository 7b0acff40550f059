"""Attention to blocks: that of the same keys in a row, whatever the blocks, and the same bits in any company."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stepjax.models.blocks import LayerBlocks, attend_to_blocks, work_list
from stepjax.models.cache import KeyValues, attend_to_cache, quantised

HEADS, KV, DIM, PAGE, HOT = 4, 2, 8, 4, 6
LENGTHS = np.array([3, 17, 0, 30, 9])
"""Tokens in blocks; `HOT` more are in the cache in front."""

RNG = np.random.default_rng(0)
BLOCKS = -(-LENGTHS // PAGE)
KEYS, VALUES = RNG.normal(size=(2, 5, KV, 36, DIM)).astype(np.float32)
QUERIES = RNG.normal(size=(5, HEADS, 1, DIM)).astype(np.float32)


@functools.partial(jax.jit, static_argnames=("window", "cap"))
def in_blocks(queries, blocks, hot, position, window=0, cap=0.0):
    rest = functools.partial(attend_to_blocks, blocks, position=position, window=window or None, cap=cap)
    distance = jnp.arange(HOT - 1, -1, -1)
    bias = jnp.where(distance < (window or 99), 0.0, -1e30)[None, None].repeat(len(queries), 0)
    return attend_to_cache(queries, hot, bias, cap=cap, rest=rest)


narrowed = jax.jit(quantised)
listed = jax.jit(functools.partial(work_list, page=PAGE))


def cut(rows, *, narrow=False, layers=0, seed=1):
    """Each of `rows`' first tokens in blocks anywhere, their last `HOT` in front; the other blocks are NaN."""
    names = np.random.default_rng(seed).permutation(40)
    keys, values = np.full((40, KV, DIM, PAGE), np.nan, np.float32), np.full((40, KV, PAGE, DIM), np.nan, np.float32)
    table, at = np.zeros((len(rows), 8), np.int32), 0
    hot_keys, hot_values = np.zeros((len(rows), KV, DIM, HOT)), np.zeros((len(rows), KV, HOT, DIM))
    start = (-LENGTHS[rows]) % PAGE  # the first block is full from here on
    for i, row in enumerate(rows):
        for j in range(BLOCKS[row]):
            table[i, j] = names[at]
            first = j * PAGE - start[i]
            taken = np.clip(np.arange(first, first + PAGE), 0, None)  # in front of the start lies something
            keys[names[at]], values[names[at]] = KEYS[row, :, taken].transpose(1, 2, 0), VALUES[row][:, taken]
            at += 1
        last = slice(LENGTHS[row], LENGTHS[row] + HOT)
        hot_keys[i], hot_values[i] = KEYS[row, :, last].swapaxes(1, 2), VALUES[row, :, last]

    def stored(k, v):
        k, v = k.astype(np.float32), v.astype(np.float32)
        if not narrow:
            return KeyValues(k, v)
        (k, key_scales), (v, value_scales) = (narrowed(np.nan_to_num(x)) for x in (k.swapaxes(-1, -2), v))
        return KeyValues(k.swapaxes(-1, -2), v, key_scales, value_scales)

    whole = stored(keys, values)
    layer = None
    if layers:
        whole, layer = jax.tree.map(lambda x: np.stack([x * np.nan, x]), whole), jnp.int32(1)
    nothing = np.zeros(len(rows), np.int32)
    work = listed(table, BLOCKS[rows].astype(np.int32), nothing, start.astype(np.int32), nothing)
    position = np.asarray(LENGTHS[rows] + HOT - 1, np.int32)
    return LayerBlocks(whole, work, layer), stored(hot_keys, hot_values), position


def dense(rows, window=0, cap=0.0):
    """Softmax attention in plain NumPy, float64."""
    keys, values = (x[rows].astype(np.float64).repeat(HEADS // KV, axis=1) for x in (KEYS, VALUES))
    scores = np.einsum("bhtd,bhsd->bhts", QUERIES[rows].astype(np.float64) * DIM**-0.5, keys)
    if cap:
        scores = cap * np.tanh(scores / cap)
    behind = (LENGTHS[rows] + HOT - 1)[:, None] - np.arange(KEYS.shape[2])
    seen = (behind >= 0) & (behind < (window or 99))
    weights = np.where(seen[:, None, None], np.exp(scores), 0.0)
    return np.einsum("bhts,bhsd->bhtd", weights / weights.sum(-1, keepdims=True), values)


@pytest.mark.parametrize("window, cap, layers", [(0, 0.0, 0), (0, 0.0, 2), (7, 0.0, 0), (13, 3.0, 2)])
def test_attention_is_that_of_the_same_keys_in_a_row(window, cap, layers):
    rows = np.arange(5)
    found = in_blocks(QUERIES[rows], *cut(rows, layers=layers), window=window, cap=cap)
    np.testing.assert_allclose(found, dense(rows, window, cap), atol=2e-6)


def test_int8_blocks_are_near():
    rows = np.arange(5)
    gap = np.abs(in_blocks(QUERIES[rows], *cut(rows, narrow=True)) - dense(rows)).max()
    assert 1e-4 < gap < 0.05


def test_a_row_has_the_same_bits_in_any_company():
    alone = {row: np.asarray(in_blocks(QUERIES[[row]], *cut(np.array([row]))))[0] for row in (1, 3, 4)}
    for order in ([3, 0, 1, 4, 2], [4, 1, 3, 2, 2], [1, 3, 3, 3, 4]):
        rows = np.array(order)
        found = np.asarray(in_blocks(QUERIES[rows], *cut(rows, seed=order[0])))
        for at, row in enumerate(order):
            if row in alone:
                np.testing.assert_array_equal(found[at], alone[row])
