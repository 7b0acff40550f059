"""Prefill: the prompts' keys and values, each prompt once for all of its samples, in chunks and buckets of widths."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Int

from stepjax.models import LanguageModel
from stepjax.models.cache import KeyValues
from stepjax.parallel import constrain, on_each_device
from stepjax.rollout.axes import layer_axes
from stepjax.rollout.blocks import Layers
from stepjax.rollout.slots import Prompts

SHORTEST = 64
"""Width of the narrowest bucket: a narrower pass is hardly faster."""


def bucket_widths(width: int) -> tuple[int, ...]:
    """Widths that a chunk of prompts is prefilled in: the full one, and halves of it while they save time."""
    widths = [width]
    while widths[-1] // 2 >= SHORTEST:
        widths.append(widths[-1] // 2)
    return tuple(widths)


def prefill(
    model: LanguageModel,
    prompts: Int[Array, "Q P"],
    prompt_length: Int[Array, " Q"],
    *,
    devices: int,
    chunk: int,
    widths: Sequence[int] | None = None,
    layers: Layers | None = None,
    page: int = 0,
    mesh: Mesh | None = None,
    branched: bool = False,
    tables: Int[Array, "Q B"] | None = None,
    stop: Int[Array, " Q"] | None = None,
) -> tuple[Prompts, Layers | None]:
    """Prefills prompts that are padded on the left, `chunk` at a time; each device keeps its own.

    A chunk takes the narrowest of `widths` (`bucket_widths` unless given) that its longest prompt fits, and no time at
    all where all of its prompts have length 0: put prompts of similar lengths next to each other.

    Args:
      layers: blocks of `page` tokens. Those of a prompt longer than one go there but for its last 1 to `page` tokens,
        the first prompt's to the first blocks. None: all tokens stay with the prompts.
      branched: rows may begin within their prompts, so the state behind every column is kept.
      tables: the blocks of each prompt; None: the first ones, one prompt after the other.
      stop: the state behind each prompt of the automaton that may stop a row.
    """
    count, width = prompts.shape
    widths = sorted(widths or bucket_widths(width))
    chunks = count // chunk

    def by_chunk(x: Array) -> Array:
        split = x.reshape(devices, chunks, chunk // devices, *x.shape[1:])
        return constrain(split.swapaxes(0, 1).reshape(chunks, chunk, *x.shape[1:]), None, "batch")

    def whole(tokens: Array, length: Array) -> Prompts:
        if len(widths) == 1 and chunks == 1:
            return _pass(model, tokens, length, width, branched)
        fits = jnp.searchsorted(jnp.asarray(widths), jnp.max(length))
        branches = [lambda t, n, w=w: _pass(model, t, n, w, branched) for w in widths]
        nothing = jax.tree.map(jnp.zeros_like, jax.eval_shape(branches[0], tokens, length))
        return jax.lax.switch(
            jnp.where(jnp.max(length) > 0, fits + 1, 0), [lambda t, n: nothing, *branches], tokens, length
        )

    def one(layers: Layers | None, given: tuple[Array, Array, Array | None]) -> tuple[Layers | None, Prompts]:
        tokens, length, table = given
        found = whole(tokens, length)
        if layers is None or table is None:
            return layers, found
        at = layer_axes(found.layers)
        store = on_each_device(
            functools.partial(_to_blocks, page=page), mesh, (layer_axes(layers), at, 0, 0), layer_axes(layers)
        )
        layers = store(layers, found.layers, length, table)
        return layers, _last(found, length, table, page)

    if tables is None and layers is not None and width > page:
        tables = on_each_device(functools.partial(_tables, width=width, page=page), mesh, (0,), 0)(prompt_length)
    given = by_chunk(prompts), by_chunk(prompt_length), None if tables is None else by_chunk(tables)
    if chunks == 1:
        layers, found = one(layers, jax.tree.map(lambda x: x[0], given))
        found = jax.tree.map(lambda x: x[None], found)
    else:
        layers, found = jax.lax.scan(one, layers, given)
    return dataclasses.replace(found, stop=None if stop is None else by_chunk(stop)), layers


def _tables(length: Int[Array, " Q"], *, width: int, page: int) -> Int[Array, "Q B"]:
    """The blocks of one device's prompts, one after the other; a number above them all behind a prompt's own."""
    most = (width - 1) // page
    count = jnp.maximum(length - 1, 0) // page
    number = jnp.arange(most, dtype=jnp.int32)
    return jnp.where(number < count[:, None], (jnp.cumsum(count) - count)[:, None] + number, jnp.iinfo(jnp.int32).max)


def _to_blocks(
    layers: Layers, found: Layers, length: Int[Array, " c"], table: Int[Array, "c B"], *, page: int
) -> Layers:
    """The blocks with one device's prompts, whose keys and values are `found` in columns padded on the left."""
    most, stacked = table.shape[1], isinstance(layers, KeyValues)

    def put(into: Array, rows: Array, axis: int) -> Array:
        """`axis`: of the columns, of one layer's rows."""

        def cut(row: Array, length: Array) -> Array:
            column = row.shape[axis] - length + jnp.arange(most * page)
            taken = jnp.take(row, column, axis=axis, mode="clip")
            split = taken.reshape(*row.shape[:axis], most, page, *row.shape[axis + 1 :])
            return jnp.moveaxis(split, axis, 0)

        def layer(into: Array, rows: Array) -> Array:
            blocks = jax.vmap(cut)(rows, length)
            return into.at[table.reshape(-1)].set(blocks.reshape(-1, *blocks.shape[2:]), mode="drop")

        return jax.vmap(layer)(into, rows) if stacked else layer(into, rows)

    def each(into: KeyValues, rows: KeyValues) -> KeyValues:
        def scales(into: Any, rows: Any) -> Any:
            return None if into is None else put(into, rows, 1)

        return KeyValues(
            put(into.keys, rows.keys, 2),
            put(into.values, rows.values, 1),
            scales(into.key_scales, rows.key_scales),
            scales(into.value_scales, rows.value_scales),
        )

    if isinstance(layers, KeyValues):
        assert isinstance(found, KeyValues)
        return each(layers, found)
    assert isinstance(found, tuple)
    return tuple(each(into, rows) for into, rows in zip(layers, found, strict=True))


def _last(found: Prompts, length: Int[Array, " c"], table: Int[Array, "c B"], page: int) -> Prompts:
    """The last columns of prompts, without the tokens that are in blocks."""

    def cut(x: Array | None, axis: int) -> Any:
        return None if x is None else jax.lax.slice_in_dim(x, x.shape[axis] - page, None, axis=axis % x.ndim)

    def each(x: KeyValues) -> KeyValues:
        return KeyValues(cut(x.keys, -1), cut(x.values, -2), cut(x.key_scales, -1), cut(x.value_scales, -1))

    layers = each(found.layers) if isinstance(found.layers, KeyValues) else tuple(each(x) for x in found.layers)
    positions, segments = cut(found.positions, -1), cut(found.segments, -1)
    stored = jnp.maximum(length - 1, 0)[:, None] // page * page
    segments = jnp.where(positions >= stored, segments, 0)
    return dataclasses.replace(found, layers=layers, positions=positions, segments=segments, table=table)


def _pass(
    model: LanguageModel, prompts: Int[Array, "c P"], length: Int[Array, " c"], width: int, branched: bool
) -> Prompts:
    """The prompts' last `width` columns, which hold all of them, in a pool of the full width."""
    count, full = prompts.shape
    columns = jnp.arange(full, dtype=jnp.int32)[None] - (full - length[:, None])
    positions, segments = jnp.maximum(columns, 0), (columns >= 0).astype(jnp.int32)
    start = full - width
    cache = dataclasses.replace(model.trunk.empty_cache(count, full), index=jnp.asarray(start, jnp.int32))
    hidden, cache = model.trunk.extend(prompts[:, start:], positions[:, start:], segments[:, start:], cache, fresh=True)
    kept = jnp.pad(hidden, ((0, 0), (start, 0), (0, 0))) if branched else hidden[:, -1]
    return Prompts(kept, cache.layers, positions, segments, length)
