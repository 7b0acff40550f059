"""Prefill: the prompts' keys and values, each prompt once for all of its samples, in chunks and buckets of widths."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from stepjax.models import LanguageModel
from stepjax.parallel import constrain
from stepjax.rollout.slots import Pool

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
    branched: bool = False,
) -> Pool:
    """Prefills prompts that are padded on the left, `chunk` at a time; each device keeps its own.

    A chunk takes the narrowest of `widths` (`bucket_widths` unless given) that its longest prompt fits, and no time at
    all where all of its prompts have length 0: put prompts of similar lengths next to each other. `branched`: rows may
    begin within their prompts, so the state behind every column is kept.
    """
    count, width = prompts.shape
    widths = sorted(widths or bucket_widths(width))
    chunks = count // chunk

    def by_chunk(x: Array) -> Array:
        split = x.reshape(devices, chunks, chunk // devices, *x.shape[1:])
        return constrain(split.swapaxes(0, 1).reshape(chunks, chunk, *x.shape[1:]), None, "batch")

    def one(given: tuple[Array, Array]) -> Pool:
        tokens, length = given
        if len(widths) == 1 and chunks == 1:
            return _pass(model, tokens, length, width, branched)
        fits = jnp.searchsorted(jnp.asarray(widths), jnp.max(length))
        branches = [lambda t, n, w=w: _pass(model, t, n, w, branched) for w in widths]
        nothing = jax.tree.map(jnp.zeros_like, jax.eval_shape(branches[0], tokens, length))
        return jax.lax.switch(
            jnp.where(jnp.max(length) > 0, fits + 1, 0), [lambda t, n: nothing, *branches], tokens, length
        )

    given = by_chunk(prompts), by_chunk(prompt_length)
    if chunks == 1:
        return jax.tree.map(lambda x: x[None], one(jax.tree.map(lambda x: x[0], given)))
    return jax.lax.map(one, given)


def _pass(
    model: LanguageModel, prompts: Int[Array, "c P"], length: Int[Array, " c"], width: int, branched: bool
) -> Pool:
    """The prompts' last `width` columns, which hold all of them, in a pool of the full width."""
    count, full = prompts.shape
    columns = jnp.arange(full, dtype=jnp.int32)[None] - (full - length[:, None])
    positions, segments = jnp.maximum(columns, 0), (columns >= 0).astype(jnp.int32)
    start = full - width
    cache = dataclasses.replace(model.trunk.empty_cache(count, full), index=jnp.asarray(start, jnp.int32))
    hidden, cache = model.trunk.extend(prompts[:, start:], positions[:, start:], segments[:, start:], cache, fresh=True)
    kept = jnp.pad(hidden, ((0, 0), (start, 0), (0, 0))) if branched else hidden[:, -1]
    return Pool(kept, cache.layers, positions, segments)
