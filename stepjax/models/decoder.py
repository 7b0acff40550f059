"""A decoder of the Llama/Qwen kind in Flax NNX, its layers stacked and scanned.

A `Trunk` turns tokens into hidden states; heads on top of it make it a policy, a critic or a process reward model
(`heads.py`). Parameters of all layers are stacked on a leading axis, so compile time does not grow with depth.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from stepjax.models.attention import Cache, attend, causal_bias, empty_cache, rotary_angles, rotate
from stepjax.models.definition import param
from stepjax.parallel import constrain


@dataclass(frozen=True)
class DecoderConfig:
    """Shape of a decoder; `dtype` computes, `param_dtype` stores. Heads × head_dim need not equal the width."""

    vocab: int
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-6
    qkv_bias: bool = False
    qk_norm: bool = False
    tied: bool = True
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    remat: bool = False
    unroll: int = 1


def rms_norm(x: Float[Array, "... D"], scale: Float[Array, " D"], eps: float) -> Float[Array, "... D"]:
    y = x.astype(jnp.float32)
    y = y * jax.lax.rsqrt(jnp.mean(jnp.square(y), axis=-1, keepdims=True) + eps)
    return (y * scale.astype(jnp.float32)).astype(x.dtype)


class Layers(nnx.Module):
    """The transformer blocks: every parameter carries a leading axis of `layers` entries."""

    def __init__(self, config: DecoderConfig, rngs: nnx.Rngs):
        c, n = config, config.layers

        def weight(shape: tuple[int, ...], axes: tuple[str, ...], fan_in: int) -> nnx.Param:
            init = nnx.initializers.normal(fan_in**-0.5)
            return param(rngs, (n, *shape), ("layers", *axes), init, c.param_dtype)

        def constant(shape: tuple[int, ...], axes: tuple[str, ...], value: float) -> nnx.Param:
            return param(rngs, (n, *shape), ("layers", *axes), nnx.initializers.constant(value), c.param_dtype)

        self.attention_norm = constant((c.width,), ("width",), 1.0)
        self.query = weight((c.width, c.heads, c.head_dim), ("embed", "heads", "head_dim"), c.width)
        self.key = weight((c.width, c.kv_heads, c.head_dim), ("embed", "kv_heads", "head_dim"), c.width)
        self.value = weight((c.width, c.kv_heads, c.head_dim), ("embed", "kv_heads", "head_dim"), c.width)
        self.output = weight((c.heads, c.head_dim, c.width), ("heads", "head_dim", "embed"), c.heads * c.head_dim * 2)
        if c.qkv_bias:
            self.query_bias = constant((c.heads, c.head_dim), ("heads", "head_dim"), 0.0)
            self.key_bias = constant((c.kv_heads, c.head_dim), ("kv_heads", "head_dim"), 0.0)
            self.value_bias = constant((c.kv_heads, c.head_dim), ("kv_heads", "head_dim"), 0.0)
        if c.qk_norm:
            self.query_norm = constant((c.head_dim,), ("head_dim",), 1.0)
            self.key_norm = constant((c.head_dim,), ("head_dim",), 1.0)
        self.mlp_norm = constant((c.width,), ("width",), 1.0)
        self.gate = weight((c.width, c.mlp), ("embed", "mlp"), c.width)
        self.up = weight((c.width, c.mlp), ("embed", "mlp"), c.width)
        self.down = weight((c.mlp, c.width), ("mlp", "embed"), c.mlp * 2)


# Products are taken over flat rows: with one contracted dimension the backward pass needs no transposed copy.
def _matmul(x: Float[Array, "B T D"], w: Float[Array, "D F"]) -> Float[Array, "B T F"]:
    return (x.reshape(-1, x.shape[-1]) @ w).reshape(*x.shape[:-1], w.shape[-1])


def _to_heads(x: Float[Array, "B T D"], w: Float[Array, "D H K"]) -> Float[Array, "B H T K"]:
    return _matmul(x, w.reshape(w.shape[0], -1)).reshape(*x.shape[:-1], *w.shape[1:]).swapaxes(1, 2)


def _from_heads(x: Float[Array, "B H T K"], w: Float[Array, "H K D"]) -> Float[Array, "B T D"]:
    x = x.swapaxes(1, 2)
    return _matmul(x.reshape(*x.shape[:2], -1), w.reshape(-1, w.shape[-1]))


class Block:
    """One layer, given its slice of the stacked parameters."""

    def __init__(self, config: DecoderConfig, weights: dict[str, jax.Array]):
        self.config = config
        norms = ("attention_norm", "mlp_norm", "query_norm", "key_norm")
        self.w = {k: (v if k in norms else v.astype(config.dtype)) for k, v in weights.items()}

    def project(
        self, x: Float[Array, "B T D"], angles: tuple[Array, Array]
    ) -> tuple[Float[Array, "B H T K"], Float[Array, "B N T K"], Float[Array, "B N T K"]]:
        """Rotated queries, rotated keys, and values of the normalised input, head-major."""
        c, w = self.config, self.w
        h = rms_norm(x, w["attention_norm"], c.norm_eps)
        q, k, v = (_to_heads(h, w[name]) for name in ("query", "key", "value"))
        if c.qkv_bias:
            q, k, v = q + w["query_bias"][:, None], k + w["key_bias"][:, None], v + w["value_bias"][:, None]
        if c.qk_norm:
            q, k = rms_norm(q, w["query_norm"], c.norm_eps), rms_norm(k, w["key_norm"], c.norm_eps)
        return rotate(q, angles), rotate(k, angles), v

    def finish(self, x: Float[Array, "B T D"], attended: Float[Array, "B H T K"]) -> Float[Array, "B T D"]:
        """Output projection and MLP, each added to the residual stream."""
        w = self.w
        x = x + _from_heads(attended, w["output"])
        h = rms_norm(x, w["mlp_norm"], self.config.norm_eps)
        h = jax.nn.silu(_matmul(h, w["gate"])) * _matmul(h, w["up"])
        x = x + _matmul(constrain(h, "batch", "time", "mlp"), w["down"])
        return constrain(x, "batch", "time", "width")


def scan_layers(config: DecoderConfig, layers: Layers, step: Callable[[Any, Any], tuple[Any, None]], carry: Any) -> Any:
    """Runs `step(carry, (weights, index))` over the layers' stacked parameters."""
    _, state = nnx.split(layers, nnx.Param)
    weights = {str(path[-1]): variable[...] for path, variable in nnx.to_flat_state(state)}
    body = jax.checkpoint(step) if config.remat else step
    return jax.lax.scan(body, carry, (weights, jnp.arange(config.layers)), unroll=min(config.unroll, config.layers))[0]


def full_pass(
    config: DecoderConfig,
    layers: Layers,
    x: Float[Array, "B T D"],
    positions: Int[Array, "B T"],
    segments: Int[Array, "B T"],
) -> Float[Array, "B T D"]:
    """The layers over whole rows; segment 0 is padding, tokens see only their own segment."""
    bias = causal_bias(positions, segments, positions, segments)
    angles = rotary_angles(positions, config.head_dim, config.rope_theta)

    def step(x: jax.Array, layer: Any) -> tuple[jax.Array, None]:
        block = Block(config, layer[0])
        q, k, v = block.project(x, angles)
        return block.finish(x, attend(q, k, v, bias)), None

    return scan_layers(config, layers, step, x)


class Trunk(nnx.Module):
    """Embedding, layers and final norm: tokens to hidden states."""

    def __init__(self, config: DecoderConfig, rngs: nnx.Rngs):
        self.config = config
        init = nnx.initializers.normal(config.width**-0.5)
        self.embedding = param(rngs, (config.vocab, config.width), ("vocab", "embed"), init, config.param_dtype)
        self.layers = Layers(config, rngs)
        self.norm = param(rngs, (config.width,), ("width",), nnx.initializers.ones, config.param_dtype)

    def _embed(self, tokens: Int[Array, "B T"]) -> Float[Array, "B T D"]:
        return constrain(self.embedding[...].astype(self.config.dtype)[tokens], "batch", "time", "width")

    def __call__(
        self, tokens: Int[Array, "B T"], positions: Int[Array, "B T"], segments: Int[Array, "B T"]
    ) -> Float[Array, "B T D"]:
        """Hidden states of a full pass; segment 0 is padding, tokens see only their own segment."""
        x = full_pass(self.config, self.layers, self._embed(tokens), positions, segments)
        return rms_norm(x, self.norm[...], self.config.norm_eps)

    def empty_cache(self, rows: int, slots: int) -> Cache:
        c = self.config
        return empty_cache(c.layers, rows, c.kv_heads, slots, c.head_dim, c.dtype)

    def extend(
        self,
        tokens: Int[Array, "B T"],
        positions: Int[Array, "B T"],
        segments: Int[Array, "B T"],
        cache: Cache,
        *,
        fresh: bool = False,
    ) -> tuple[Float[Array, "B T D"], Cache]:
        """Hidden states of tokens that continue the cache, and the cache with them.

        With `fresh` the cache is known to be empty (a prefill): the tokens then attend among themselves only, and
        no time is spent on empty slots.
        """
        at = cache.index
        cache = dataclasses.replace(
            cache,
            positions=jax.lax.dynamic_update_slice(cache.positions, positions, (0, at)),
            segments=jax.lax.dynamic_update_slice(cache.segments, segments, (0, at)),
        )
        key_positions, key_segments = (positions, segments) if fresh else (cache.positions, cache.segments)
        bias = causal_bias(positions, segments, key_positions, key_segments)
        angles = rotary_angles(positions, self.config.head_dim, self.config.rope_theta)

        def step(carry: Any, layer: Any) -> tuple[Any, None]:
            x, keys, values = carry
            weights, i = layer
            block = Block(self.config, weights)
            q, k, v = block.project(x, angles)
            keys = jax.lax.dynamic_update_slice(keys, k[None], (i, 0, 0, at, 0))
            values = jax.lax.dynamic_update_slice(values, v[None], (i, 0, 0, at, 0))
            if not fresh:
                k, v = (jax.lax.dynamic_index_in_dim(a, i, keepdims=False) for a in (keys, values))
            return (block.finish(x, attend(q, k, v, bias)), keys, values), None

        x, keys, values = scan_layers(self.config, self.layers, step, (self._embed(tokens), cache.keys, cache.values))
        cache = dataclasses.replace(cache, keys=keys, values=values, index=at + tokens.shape[1])
        return rms_norm(x, self.norm[...], self.config.norm_eps), cache
