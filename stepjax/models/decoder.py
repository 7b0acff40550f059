"""A decoder described by data (Llama, Qwen, Mistral, Gemma …) in Flax NNX, its layers stacked and scanned.

A `Trunk` turns tokens into hidden states; heads on top of it make it a policy, a critic or a process reward model
(`heads.py`). Parameters of all layers are stacked on a leading axis, so compile time does not grow with depth.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from stepjax.models.attention_context import AttentionContext, LayerKind, layer_kinds
from stepjax.models.cache import Cache, KeyValues, empty_cache
from stepjax.models.config import DecoderConfig
from stepjax.models.definition import param
from stepjax.models.lora import add_adapters, low_rank
from stepjax.models.rope import Angles, rotate
from stepjax.parallel import constrain

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "silu": jax.nn.silu,
    "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
}

REMAT_POLICIES: dict[str, Any] = {
    "full": None,
    "dots": jax.checkpoint_policies.dots_saveable,
    "weight_dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}
"""What a layer keeps for its backward pass: nothing, all matrix products, or those with weights alone."""


def rms_norm(
    x: Float[Array, "... D"], scale: Float[Array, " D"], eps: float, offset: float = 0.0
) -> Float[Array, "... D"]:
    """x / √(mean of x² + eps) · (scale + offset), computed in float32."""
    y = x.astype(jnp.float32)
    y = y * jax.lax.rsqrt(jnp.mean(jnp.square(y), axis=-1, keepdims=True) + eps)
    scale = scale.astype(jnp.float32)
    return (y * (scale + offset if offset else scale)).astype(x.dtype)


class Layers(nnx.Module):
    """The transformer blocks: every parameter carries a leading axis of `layers` entries."""

    def __init__(self, config: DecoderConfig, rngs: nnx.Rngs):
        c, n = config, config.layers

        def weight(shape: tuple[int, ...], axes: tuple[str, ...], fan_in: int) -> nnx.Param:
            init = nnx.initializers.normal(fan_in**-0.5)
            return param(rngs, (n, *shape), ("layers", *axes), init, c.param_dtype)

        def constant(shape: tuple[int, ...], axes: tuple[str, ...], value: float) -> nnx.Param:
            return param(rngs, (n, *shape), ("layers", *axes), nnx.initializers.constant(value), c.param_dtype)

        one = 1.0 - c.norm_offset
        self.attention_norm = constant((c.width,), ("width",), one)
        self.query = weight((c.width, c.heads, c.head_dim), ("embed", "heads", "head_dim"), c.width)
        self.key = weight((c.width, c.kv_heads, c.head_dim), ("embed", "kv_heads", "head_dim"), c.width)
        self.value = weight((c.width, c.kv_heads, c.head_dim), ("embed", "kv_heads", "head_dim"), c.width)
        self.output = weight((c.heads, c.head_dim, c.width), ("heads", "head_dim", "embed"), c.heads * c.head_dim * 2)
        if c.qkv_bias:
            self.query_bias = constant((c.heads, c.head_dim), ("heads", "head_dim"), 0.0)
            self.key_bias = constant((c.kv_heads, c.head_dim), ("kv_heads", "head_dim"), 0.0)
            self.value_bias = constant((c.kv_heads, c.head_dim), ("kv_heads", "head_dim"), 0.0)
        if c.output_bias:
            self.output_bias = constant((c.width,), ("width",), 0.0)
        if c.qk_norm:
            self.query_norm = constant((c.head_dim,), ("head_dim",), one)
            self.key_norm = constant((c.head_dim,), ("head_dim",), one)
        if c.post_norms:
            self.attention_post_norm = constant((c.width,), ("width",), one)
            self.mlp_post_norm = constant((c.width,), ("width",), one)
        self.mlp_norm = constant((c.width,), ("width",), one)
        self.gate = weight((c.width, c.mlp), ("embed", "mlp"), c.width)
        self.up = weight((c.width, c.mlp), ("embed", "mlp"), c.width)
        self.down = weight((c.mlp, c.width), ("mlp", "embed"), c.mlp * 2)
        if c.mlp_bias:
            self.gate_bias = constant((c.mlp,), ("mlp",), 0.0)
            self.up_bias = constant((c.mlp,), ("mlp",), 0.0)
            self.down_bias = constant((c.width,), ("width",), 0.0)
        add_adapters(self, c.lora, n, rngs)


# Products are taken over flat rows: with one contracted dimension the backward pass needs no transposed copy. Weights
# that are `transposed` have their contracted dimensions last.
def _matmul(x: Float[Array, "B T D"], w: Float[Array, "D F"], transposed: bool = False) -> Float[Array, "B T F"]:
    over = 1 if transposed else 0
    y = jax.lax.dot_general(x.reshape(-1, x.shape[-1]), w, (((1,), (over,)), ((), ())))
    return y.reshape(*x.shape[:-1], w.shape[1 - over])


def _to_heads(x: Float[Array, "B T D"], w: Float[Array, "D H K"], transposed: bool = False) -> Float[Array, "B H T K"]:
    flat = w.reshape(-1, w.shape[-1]) if transposed else w.reshape(w.shape[0], -1)
    sizes = w.shape[:2] if transposed else w.shape[1:]
    return _matmul(x, flat, transposed).reshape(*x.shape[:-1], *sizes).swapaxes(1, 2)


def _from_heads(
    x: Float[Array, "B H T K"], w: Float[Array, "H K D"], transposed: bool = False
) -> Float[Array, "B T D"]:
    x = x.swapaxes(1, 2)
    flat = w.reshape(w.shape[0], -1) if transposed else w.reshape(-1, w.shape[-1])
    return _matmul(x.reshape(*x.shape[:2], -1), flat, transposed)


_CONTRACTED = {"query": 1, "key": 1, "value": 1, "output": 2, "gate": 1, "up": 1, "down": 1}
"""Of each projection's weight: how many dimensions, the leading ones, are contracted."""


_STREAMED = 8 * 2**20
"""Bytes of layers that no CPU core keeps in its cache from one decode step to the next."""


def _turn(name: str, w: jax.Array) -> jax.Array:
    n = _CONTRACTED.get(name, 0)
    return jnp.moveaxis(w, range(n), range(-n, 0))


class Block:
    """One layer, given its slice of the stacked parameters, or what `Trunk.split_weights` made of it (`transposed`)."""

    def __init__(self, config: DecoderConfig, weights: dict[str, jax.Array], transposed: bool = False):
        self.config, self.transposed = config, transposed
        self.w = {k: (v if k.endswith("_norm") else v.astype(config.dtype)) for k, v in weights.items()}

    def _norm(self, name: str, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        return rms_norm(x, self.w[name], self.config.norm_eps, self.config.norm_offset)

    # The seven projections; `name` is that of the weight.

    def _to_heads(self, name: str, x: Float[Array, "B T D"]) -> Float[Array, "B H T K"]:
        out = _to_heads(x, self.w[name], self.transposed)
        if (added := low_rank(self.config.lora, self.w, name, _matmul, x, _to_heads)) is not None:
            out = out + added
        return out + self.w[f"{name}_bias"][:, None] if self.config.qkv_bias else out

    def _from_heads(self, name: str, x: Float[Array, "B H T K"]) -> Float[Array, "B T D"]:
        out = _from_heads(x, self.w[name], self.transposed)
        if (added := low_rank(self.config.lora, self.w, name, _from_heads, x, _matmul)) is not None:
            out = out + added
        return out + self.w[f"{name}_bias"] if self.config.output_bias else out

    def _dense(self, name: str, x: Float[Array, "B T D"]) -> Float[Array, "B T F"]:
        out = _matmul(x, self.w[name], self.transposed)
        if (added := low_rank(self.config.lora, self.w, name, _matmul, x)) is not None:
            out = out + added
        return out + self.w[f"{name}_bias"] if self.config.mlp_bias else out

    def project(
        self, x: Float[Array, "B T D"], angles: Angles
    ) -> tuple[Float[Array, "B H T K"], Float[Array, "B N T K"], Float[Array, "B N T K"]]:
        """Rotated queries, rotated keys, and values of the normalised input, head-major."""
        h = self._norm("attention_norm", x)
        q, k, v = (self._to_heads(name, h) for name in ("query", "key", "value"))
        if self.config.qk_norm:
            q, k = self._norm("query_norm", q), self._norm("key_norm", k)
        return rotate(q, angles), rotate(k, angles), v

    def finish(self, x: Float[Array, "B T D"], attended: Float[Array, "B H T K"]) -> Float[Array, "B T D"]:
        """Output projection and MLP, each added to the residual stream."""
        c = self.config
        h = self._from_heads("output", attended)
        x = x + (self._norm("attention_post_norm", h) if c.post_norms else h)
        h = self._norm("mlp_norm", x)
        h = ACTIVATIONS[c.activation](self._dense("gate", h)) * self._dense("up", h)
        h = self._dense("down", constrain(h, "batch", "time", "mlp"))
        x = x + (self._norm("mlp_post_norm", h) if c.post_norms else h)
        return constrain(x, "batch", "time", "width")


LayerWeights = tuple[dict[str, jax.Array], ...]


def layer_weights(layers: Layers) -> dict[str, jax.Array]:
    """The layers' stacked parameters by name."""
    _, state = nnx.split(layers, nnx.Param)
    return {str(path[-1]): variable[...] for path, variable in nnx.to_flat_state(state)}


def scan_layers(config: DecoderConfig, layers: Layers, step: Callable[[Any, Any], tuple[Any, None]], carry: Any) -> Any:
    """Runs `step(carry, (weights, index, kind))` over the layers' stacked parameters."""
    body = jax.checkpoint(step, policy=REMAT_POLICIES[config.remat_policy]) if config.remat else step
    each = (layer_weights(layers), jnp.arange(config.layers), layer_kinds(config))
    return jax.lax.scan(body, carry, each, unroll=min(config.unroll, config.layers))[0]


def full_pass(
    config: DecoderConfig,
    layers: Layers,
    x: Float[Array, "B T D"],
    positions: Int[Array, "B T"],
    segments: Int[Array, "B T"],
) -> Float[Array, "B T D"]:
    """The layers over whole rows; segment 0 is padding, tokens see only their own segment."""
    context = AttentionContext(config, positions, segments)

    def step(x: jax.Array, layer: tuple[dict[str, jax.Array], jax.Array, LayerKind]) -> tuple[jax.Array, None]:
        weights, _, kind = layer
        block = Block(config, weights)
        q, k, v = block.project(x, context.angles(kind))
        return block.finish(x, context.attend(q, k, v, kind)), None

    return scan_layers(config, layers, step, x)


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
        self, tokens: Int[Array, "B T"], positions: Int[Array, "B T"], segments: Int[Array, "B T"]
    ) -> Float[Array, "B T D"]:
        """Hidden states of a full pass; segment 0 is padding, tokens see only their own segment."""
        return self._last_norm(full_pass(self.config, self.layers, self._embed(tokens), positions, segments))

    def empty_cache(self, rows: int, slots: int) -> Cache:
        """A cache without keys and values, for `rows` rows of `slots` tokens each."""
        c = self.config
        dtype, unrolled = c.cache_dtype or c.dtype, c.unroll >= c.layers
        return empty_cache(c.layers, rows, c.kv_heads, slots, c.head_dim, dtype, unrolled)

    def split_weights(self) -> LayerWeights | None:
        """Each layer's weights in the order that `extend` reads best, where the layer loop is unrolled (else None).

        A loop over `extend` takes them apart before it begins, not in each of its turns.
        """
        c = self.config
        if c.unroll < c.layers:
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
            x: jax.Array, stored: KeyValues, weights: dict[str, jax.Array], kind: LayerKind, layer: jax.Array | None
        ) -> tuple[jax.Array, KeyValues]:
            block = Block(self.config, weights, transposed=layer is None and self._transposed)
            q, k, v = block.project(x, context.angles(kind))
            stored = stored.write(k, v, at, layer)
            if fresh:
                return block.finish(x, context.attend(q, k, v, kind)), stored
            # What is written is settled before it is read: fused into the read, it would copy the whole cache.
            stored = jax.lax.optimization_barrier(stored)
            seen = stored if layer is None else stored.of(layer)
            return block.finish(x, context.attend_cached(q, seen, kind)), stored

        def step(carry: Any, layer: tuple[dict[str, jax.Array], jax.Array, LayerKind]) -> tuple[Any, None]:
            (x, stored), (weights, i, kind) = carry, layer
            return one(x, stored, weights, kind, i), None

        x, stored = self._embed(tokens), cache.layers
        if isinstance(stored, KeyValues):
            x, stored = scan_layers(self.config, self.layers, step, (x, stored))
        else:
            found, kinds = [], layer_kinds(self.config)
            for i, (of_layer, own) in enumerate(zip(stored, weights or self.split_weights() or (), strict=True)):
                x, of_layer = one(x, of_layer, own, jax.tree.map(lambda k, i=i: k[i], kinds), None)
                found.append(of_layer)
            stored = tuple(found)
        return self._last_norm(x), dataclasses.replace(cache, layers=stored, index=at + tokens.shape[1])
