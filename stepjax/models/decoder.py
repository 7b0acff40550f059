"""A decoder described by data (Llama, Qwen, Mistral, Gemma …) in Flax NNX, its layers stacked and scanned.

A `Trunk` turns tokens into hidden states; heads on top of it make it a policy, a critic or a process reward model
(`heads.py`). Parameters of all layers are stacked on a leading axis, so compile time does not grow with depth.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from stepjax.models.attention_context import AttentionContext, LayerKind, layer_kinds
from stepjax.models.backends import decodes_apart
from stepjax.models.block import Block, rms_norm
from stepjax.models.blocks import LayerBlocks
from stepjax.models.cache import Cache, KeyValues, empty_cache, empty_key_values
from stepjax.models.config import DecoderConfig
from stepjax.models.definition import param
from stepjax.models.layers import Layers, full_pass, layer_weights, scan_layers
from stepjax.parallel import constrain

LayerWeights = tuple[dict[str, jax.Array], ...]

_CONTRACTED = {"query": 1, "key": 1, "value": 1, "output": 2, "gate": 1, "up": 1, "down": 1}
"""Of each projection's weight: how many dimensions, the leading ones, are contracted."""

_STREAMED = 8 * 2**20
"""Bytes of layers that do not stay in a CPU core's cache from one decode step to the next."""


class Trunk(nnx.Module):
    """Embedding, layers and final norm: tokens to hidden states."""

    def __init__(self, config: DecoderConfig, rngs: nnx.Rngs):
        self.config = config
        init = nnx.initializers.normal(config.width**-0.5)
        self.embedding = param(rngs, (config.vocab, config.width), ("vocab", "embed"), init, config.param_dtype)
        self.layers = Layers(config, rngs)
        one = nnx.initializers.constant(1.0 - config.norm_offset)
        self.norm = param(rngs, (config.width,), ("width",), one, config.param_dtype)

    def _embed(self, tokens: Int[Array, "B T"]) -> Float[Array, "B T D"]:
        x = self.embedding[...].astype(self.config.dtype)[tokens]
        if self.config.embed_scale != 1.0:
            x = x * jnp.asarray(self.config.embed_scale, x.dtype)
        return constrain(x, "batch", "time", "width")

    def _last_norm(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        return rms_norm(x, self.norm[...], self.config.norm_eps, self.config.norm_offset)

    def __call__(
        self, tokens: Int[Array, "B T"], positions: Int[Array, "B T"], segments: Int[Array, "B T"], *, parts: int = 1
    ) -> Float[Array, "B T D"]:
        """Hidden states of a full pass; segment 0 is padding, tokens see only their own segment.

        `parts`: into how many parts rows are cut (`row_parts.py`); 1: they are whole.
        """
        return self._last_norm(full_pass(self.config, self.layers, self._embed(tokens), positions, segments, parts))

    def empty_cache(self, rows: int, slots: int) -> Cache:
        """A cache without keys and values, for `rows` rows of `slots` tokens each."""
        c = self.config
        return empty_cache(c.layers, rows, c.kv_heads, slots, c.head_dim, c.cache_dtype or c.dtype, decodes_apart(c))

    def empty_blocks(self, blocks: int, page: int) -> KeyValues | tuple[KeyValues, ...]:
        """Blocks of `page` tokens each, laid out as the layers of `empty_cache`."""
        c = self.config
        dtype = c.cache_dtype or c.dtype
        return empty_key_values(c.layers, blocks, c.kv_heads, page, c.head_dim, dtype, decodes_apart(c))

    def split_weights(self) -> LayerWeights | None:
        """Each layer's weights in the order that `extend` reads best, where decoding takes them apart (else None).

        A loop over `extend` takes them apart before it begins, not in each of its turns.
        """
        c = self.config
        if not decodes_apart(c):
            return None
        stacked = {k: v.astype(c.dtype) if k in _CONTRACTED else v for k, v in layer_weights(self.layers).items()}
        each = ({name: w[i] for name, w in stacked.items()} for i in range(c.layers))
        if not self._transposed:
            return tuple(each)
        return tuple({name: _turn(name, w) for name, w in weights.items()} for weights in each)

    @property
    def _transposed(self) -> bool:
        """Whether `split_weights` are `transposed`: a few rows times weights that come from memory are a tenth faster
        so on a CPU, and slower times weights in its cache."""
        weights = layer_weights(self.layers)
        return sum(weights[name].size for name in _CONTRACTED) * jnp.dtype(self.config.dtype).itemsize > _STREAMED

    def extend(
        self,
        tokens: Int[Array, "B T"],
        positions: Int[Array, "B T"],
        segments: Int[Array, "B T"],
        cache: Cache,
        *,
        fresh: bool = False,
        weights: LayerWeights | None = None,
    ) -> tuple[Float[Array, "B T D"], Cache]:
        """Hidden states of tokens that continue the cache, and the cache with them.

        With `fresh` the cache is known to be empty (a prefill): the tokens then attend among themselves only, and
        no time is spent on empty slots. `weights`: those of `split_weights`, made before a loop.
        """
        at = cache.index
        cache = dataclasses.replace(
            cache,
            positions=jax.lax.dynamic_update_slice(cache.positions, positions, (0, at)),
            segments=jax.lax.dynamic_update_slice(cache.segments, segments, (0, at)),
        )
        keys_at = None if fresh else (cache.positions, cache.segments)
        context = AttentionContext(self.config, positions, segments, keys_at)

        def one(
            x: jax.Array,
            stored: KeyValues,
            weights: dict[str, jax.Array],
            kind: LayerKind,
            layer: jax.Array | None,
            blocks: LayerBlocks | None,
        ) -> tuple[jax.Array, KeyValues]:
            block = Block(self.config, weights, transposed=layer is None and self._transposed)
            q, k, v = block.project(x, context.angles(kind))
            stored = stored.write(k, v, at, layer)
            if fresh:
                return block.finish(x, context.attend(q, k, v, kind)), stored
            # What is written is settled before it is read: fused into the read, it would copy the whole cache.
            stored = jax.lax.optimization_barrier(stored)
            seen = stored if layer is None else stored.of(layer)
            return block.finish(x, context.attend_cached(q, seen, kind, blocks)), stored

        def step(carry: Any, layer: tuple[dict[str, jax.Array], jax.Array, LayerKind]) -> tuple[Any, None]:
            (x, stored), (weights, i, kind) = carry, layer
            return one(x, stored, weights, kind, i, LayerBlocks.of(cache.blocks, i, stacked=True)), None

        x, stored = self._embed(tokens), cache.layers
        if isinstance(stored, KeyValues):
            x, stored = scan_layers(self.config, self.layers, step, (x, stored))
        else:
            found, kinds = [], layer_kinds(self.config)
            for i, (of_layer, own) in enumerate(zip(stored, weights or self.split_weights() or (), strict=True)):
                kind, blocks = jax.tree.map(lambda k, i=i: k[i], kinds), LayerBlocks.of(cache.blocks, i)
                x, of_layer = one(x, of_layer, own, kind, None, blocks)
                found.append(of_layer)
            stored = tuple(found)
        return self._last_norm(x), dataclasses.replace(cache, layers=stored, index=at + tokens.shape[1])


def _turn(name: str, w: jax.Array) -> jax.Array:
    n = _CONTRACTED.get(name, 0)
    return jnp.moveaxis(w, range(n), range(-n, 0))
