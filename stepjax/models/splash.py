"""Splash attention on TPU: a blockwise kernel that skips blocks outside of the causal mask or a window."""

import math

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int

from stepjax.parallel import partition_spec

LANES = 128
"""The kernel's blocks are multiples of it."""

LARGEST_BLOCK = 512


def splash_attention(
    queries: Float[Array, "B H T D"],
    keys: Float[Array, "B K T D"],
    values: Float[Array, "B K T D"],
    segments: Int[Array, "B T"],
    *,
    window: int = 0,
    scale: float | None = None,
    cap: float = 0.0,
    interpret: bool = False,
) -> Float[Array, "B H T D"]:
    """Causal attention within segments; scores and sums in float32.

    A token sees those of its segment among the `window` tokens that end with itself (0: all before it). Columns are
    positions: a segment's tokens must be adjacent, as they do in padded and in packed rows. Padding (segment
    0) sees padding. Rows and heads are divided over the mesh in context, and padded to whole blocks.

    Args:
      scale: factor of the scores; 1 / √D unless given.
      cap: cap · tanh(scores / cap) takes the place of the scores; 0: none.
      interpret: run the kernel step by step on any backend, for tests.
    """
    dim = queries.shape[-1]
    q = queries * (dim**-0.5 if scale is None else scale)

    def local(q: Array, k: Array, v: Array, segments: Array) -> Array:
        return _kernel_calls(q, k, v, segments, window=window, cap=cap, interpret=interpret)

    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return local(q, keys, values, segments)
    heads = partition_spec(("batch", "heads", "time", "head_dim"), q.shape, mesh)
    key_heads = partition_spec(("batch", "kv_heads", "time", "head_dim"), keys.shape, mesh)
    if _entry(heads, 1) != _entry(key_heads, 1):
        # The key heads do not divide: every device takes those of its query heads, so each query head gets its own.
        keys, values = (jnp.repeat(x, q.shape[1] // x.shape[1], axis=1) for x in (keys, values))
        key_heads = heads
    rows = PartitionSpec(_entry(heads, 0))
    divided = jax.shard_map(
        local, mesh=mesh, in_specs=(heads, key_heads, key_heads, rows), out_specs=heads, check_vma=False
    )
    return divided(q, keys, values, segments)


def _entry(spec: PartitionSpec, i: int):
    return spec[i] if i < len(spec) else None


def _kernel_calls(q: Array, k: Array, v: Array, segments: Array, *, window: int, cap: float, interpret: bool) -> Array:
    from jax.experimental.pallas.ops.tpu import splash_attention as splash

    heads, length, kv_heads = q.shape[1], q.shape[2], k.shape[1]
    block = min(LARGEST_BLOCK, math.ceil(length / LANES) * LANES)
    pad = -length % block
    q, k, v = (jnp.pad(x, ((0, 0), (0, 0), (0, pad), (0, 0))) for x in (q, k, v))
    segments = jnp.pad(segments, ((0, 0), (0, pad)))
    size = (length + pad, length + pad)
    mask = splash.LocalMask(size, (window - 1, 0), 0) if window else splash.CausalMask(size)
    kernel = splash.make_splash_mha(
        splash.MultiHeadMask([mask] * heads),
        block_sizes=splash.BlockSizes(
            block_q=block,
            block_kv=block,
            block_kv_compute=block,
            block_q_dkv=block,
            block_kv_dkv=block,
            block_kv_dkv_compute=block,
            block_q_dq=block,
            block_kv_dq=block,
        ),
        head_shards=1,
        q_seq_shards=1,
        attn_logits_soft_cap=cap or None,
        interpret=interpret,
    )
    assert heads % kv_heads == 0
    out = jax.vmap(kernel)(q, k, v, splash.SegmentIds(segments, segments))
    return out[:, :, :length]
