"""The layers of a decoder: parameters of all of them stacked on a leading axis, and the loop over them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, Int

from stepjax.models.attention_context import AttentionContext, LayerKind, layer_kinds
from stepjax.models.backends import decodes_apart
from stepjax.models.block import Block
from stepjax.models.config import DecoderConfig
from stepjax.models.definition import param
from stepjax.models.lora import add_adapters

LAYER_INPUT = "layer_input"

REMAT_POLICIES: dict[str, Any] = {
    "full": None,
    "dots": jax.checkpoint_policies.dots_saveable,
    "weight_dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "offload": jax.checkpoint_policies.save_and_offload_only_these_names(
        names_which_can_be_saved=[],
        names_which_can_be_offloaded=[LAYER_INPUT],
        offload_src="device",
        offload_dst="pinned_host",
    ),
}
"""Activations that a layer keeps for its backward pass: none but its input, all matrix products, only those with
weights, or its input in the memory of the host."""


class Layers(nnx.Module):
    """The transformer blocks: every parameter carries a leading axis of `layers` entries, or is a tuple of as many
    (`Definition.taken_apart`).

    `apart`: whether a program that reads them many times takes them apart before.
    """

    def __init__(self, config: DecoderConfig, rngs: nnx.Rngs):
        c, n = config, config.layers
        # Each pass would cut every layer out of the stack, which on a CPU is a copy. A loop over layers cannot.
        self.apart = decodes_apart(c) and 1 < n <= c.unroll

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


def layer_weights(layers: Layers) -> dict[str, jax.Array]:
    """The layers' stacked parameters by name."""
    _, state = nnx.split(layers, nnx.Param)
    return {str(path[-1]): variable.get_value() for path, variable in nnx.to_flat_state(state)}


def scan_layers(config: DecoderConfig, layers: Layers, step: Callable[[Any, Any], tuple[Any, None]], carry: Any) -> Any:
    """Runs `step(carry, (weights, index, kind))` over the layers' stacked parameters."""
    body = jax.checkpoint(step, policy=REMAT_POLICIES[config.remat_policy]) if config.remat else step
    weights = layer_weights(layers)
    if any(isinstance(w, tuple) for w in weights.values()):
        kinds = layer_kinds(config)
        for i in range(config.layers):
            of_layer = {name: w[i] for name, w in weights.items()}
            carry, _ = body(carry, (of_layer, jnp.int32(i), jax.tree.map(lambda kind, i=i: kind[i], kinds)))
        return carry
    each = (weights, jnp.arange(config.layers), layer_kinds(config))
    return jax.lax.scan(body, carry, each, unroll=min(config.unroll, config.layers))[0]


def full_pass(
    config: DecoderConfig,
    layers: Layers,
    x: Float[Array, "B T D"],
    positions: Int[Array, "B T"],
    segments: Int[Array, "B T"],
    parts: int = 1,
) -> Float[Array, "B T D"]:
    """The layers over whole rows, or (`row_parts.py`) rows cut into `parts`; segment 0 is padding, tokens see only
    their own segment."""
    context = AttentionContext(config, positions, segments, parts=parts)

    def step(x: jax.Array, layer: tuple[dict[str, jax.Array], jax.Array, LayerKind]) -> tuple[jax.Array, None]:
        weights, _, kind = layer
        if config.remat and config.remat_policy == "offload":
            x = checkpoint_name(x, LAYER_INPUT)
        block = Block(config, weights)
        q, k, v = block.project(x, context.angles(kind))
        return block.finish(x, context.attend(q, k, v, kind)), None

    return scan_layers(config, layers, step, x)
