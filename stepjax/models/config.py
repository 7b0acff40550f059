"""Description of a decoder: sizes, norms, rotary positions, windows, kernels, dtypes."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from stepjax.models.lora import LoRA
from stepjax.models.rope import Rope, RopeScaling


@dataclass(frozen=True)
class DecoderConfig:
    """All parameters of a decoder; `dtype` computes, `param_dtype` stores.

    Attributes:
      vocab: rows of the embedding.
      entries: ids from this one on are unused (rows added for the mesh, or beyond the tokenizer): their logits
        are −1e30; None: all are entries.
      heads, kv_heads, head_dim: heads × head_dim need not equal the width.
      rope_theta, rope_scaling: rotary positions.
      local_rope: rotary positions of layers with a window, where these have their own.
      windows: how many tokens, itself included, a token of each layer sees; 0: all before it; (): 0 in every layer.
      query_scale: factor of the attention scores; None: 1 / √head_dim.
      attention_cap, logit_cap: bound c of c · tanh(x / c) on attention scores and logits; 0: none.
      embed_scale: factor of the embedded tokens.
      norm_offset: added to a norm's weight (1 where checkpoints store weight − 1).
      post_norms: also norms after attention and MLP, before each is added to the residual stream.
      activation: of the gated MLP: silu, gelu_tanh or gelu.
      qkv_bias, output_bias, mlp_bias: biases of the projections.
      qk_norm: norms on the heads of query and key, before the rotation.
      tied: one table for input and output embedding.
      attention: how a whole row attends to itself: xla, splash (TPU) or cudnn (NVIDIA GPU).
      remat, remat_policy: recompute a layer's activations in the backward pass; which of them are kept all the same.
      unroll: layers per iteration of the layer loop.
      decode_apart: whether a decode loop keeps each layer's weights and cache in arrays of their own, and so in code of
        their own, or scans over the stacked ones; None: what is faster on JAX's default backend.
      cache_dtype: of cached keys and values: bfloat16, int8 (with a scale a token and head) or None, `dtype`.
      lora: low-rank adapters on the projections.
    """

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
    cache_dtype: Any = None
    entries: int | None = None
    rope_scaling: RopeScaling | None = None
    local_rope: Rope | None = None
    windows: tuple[int, ...] = ()
    query_scale: float | None = None
    attention_cap: float = 0.0
    logit_cap: float = 0.0
    embed_scale: float = 1.0
    norm_offset: float = 0.0
    post_norms: bool = False
    activation: str = "silu"
    output_bias: bool = False
    mlp_bias: bool = False
    attention: str = "xla"
    remat_policy: str = "full"
    lora: LoRA | None = None
    decode_apart: bool | None = None

    def __post_init__(self) -> None:
        assert len(self.windows) in (0, self.layers), (self.windows, self.layers)

    @property
    def rope(self) -> Rope:
        """Rotary positions of layers without a window (of all, where there is no `local_rope`)."""
        return Rope(self.rope_theta, self.rope_scaling)
