"""Splash attention on TPU: a blockwise kernel that skips blocks outside of the causal mask or a window."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from stepjax.models.over_parts import by_heads, gathered_columns, gathered_keys
from stepjax.parallel import partition_spec
from stepjax.row_parts import in_order, token_order

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
    parts: int = 1,
    interpret: bool = False,
) -> Float[Array, "B H T D"]:
    """Causal attention within segments; scores and sums in float32.

    A token sees those of its segment among the `window` tokens that end with itself (0: all before it). Columns are
    positions: a segment's tokens must be adjacent, as they do in padded and in packed rows. Padding (segment
    0) sees padding. Rows and heads are divided over the mesh in context, and padded to whole blocks.

    Args:
      scale: factor of the scores; 1 / √D unless given.
      cap: cap · tanh(scores / cap) takes the place of the scores; 0: none.
      parts: into how many parts rows are cut (`row_parts.py`); the kernel then knows the column of each query, and
        the keys of all parts stand in their rows' order.
      interpret: run the kernel step by step on any backend, for tests.
    """
    dim, heads, length = queries.shape[-1], queries.shape[1], queries.shape[2]
    q = queries * (dim**-0.5 if scale is None else scale)
    mesh = jax.sharding.get_abstract_mesh()
    here = heads if mesh.empty else heads // _size(mesh, partition_spec(("heads",), (heads,), mesh))
    kernel = _kernel(here, length, parts, window=window, cap=cap, interpret=interpret)
    key_segments = in_order(gathered_columns((segments,), parts)[0], parts, 1)

    def local(q: Array, k: Array, v: Array, of_queries: Array, of_keys: Array, kernel: Any) -> Array:
        from jax.experimental.pallas.ops.tpu import splash_attention as splash

        if parts > 1:
            k, v = (in_order(gathered_keys(x), parts, 2) for x in (k, v))
        pads = -length % _block(length), -of_keys.shape[1] % _block(of_keys.shape[1])
        q = jnp.pad(q, ((0, 0), (0, 0), (0, pads[0]), (0, 0)))
        k, v = (jnp.pad(x, ((0, 0), (0, 0), (0, pads[1]), (0, 0))) for x in (k, v))
        found = (jnp.pad(x, ((0, 0), (0, pad))) for x, pad in zip((of_queries, of_keys), pads, strict=True))
        out = jax.vmap(kernel)(q, k, v, splash.SegmentIds(*found))
        return out[:, :, :length]

    if mesh.empty:
        return local(q, keys, values, segments, key_segments, kernel)
    rows = partition_spec(("batch",), segments.shape[:1], mesh)
    of_kernel = kernel.manual_sharding_spec(NamedSharding(mesh, PartitionSpec(None, "context" if parts > 1 else None)))
    return by_heads(local, q, keys, values, (segments, rows), (key_segments, rows), (kernel, of_kernel))


def _size(mesh: Any, spec: PartitionSpec) -> int:
    return math.prod(mesh.shape[axis] for axis in spec if axis is not None)


def _block(length: int) -> int:
    return min(LARGEST_BLOCK, math.ceil(length / LANES) * LANES)


def _kernel(heads: int, length: int, parts: int, *, window: int, cap: float, interpret: bool) -> Any:
    """The kernel for the queries of a part, of `length` tokens, and the keys of the row that it belongs to."""
    from jax.experimental.pallas.ops.tpu import splash_attention as splash

    block_q, block_k = _block(length), _block(length * parts)
    keys = math.ceil(length * parts / block_k) * block_k
    padded = math.ceil(length / block_q) * block_q
    # Queries that fill a block stand behind all keys, in segment 0.
    of_parts = token_order(length * parts, parts).reshape(parts, length)
    columns = np.pad(of_parts, ((0, 0), (0, padded - length)), constant_values=keys - 1)
    size = (parts * padded, keys)
    mask: Any = splash.LocalMask(size, (window - 1, 0), 0) if window else splash.CausalMask(size)
    mask.q_sequence = columns.reshape(-1)
    return splash.make_splash_mha(
        splash.MultiHeadMask([mask] * heads),
        block_sizes=splash.BlockSizes(
            block_q=block_q,
            block_kv=block_k,
            block_kv_compute=block_k,
            block_q_dkv=block_q,
            block_kv_dkv=block_k,
            block_kv_dkv_compute=block_k,
            block_q_dq=block_q,
            block_kv_dq=block_k,
        ),
        head_shards=1,
        q_seq_shards=parts,
        attn_logits_soft_cap=cap or None,
        interpret=interpret,
    )
