"""A TPU kernel for attention to blocks: a row's blocks are copied from HBM while those before them are computed.

The blocks of a row are copied several at a time, and the next row's before the last ones of a row are computed. Blocks
that a row does not have, or that lie before its window, are not read. No TPU has run it: it is compiled for them, and
interpreted on CPUs.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int

from stepjax.models.attention import Partial
from stepjax.models.block_kernel_body import LANES, attend_row
from stepjax.models.cache import KeyValues, WorkList
from stepjax.parallel import RULES, partition_spec

NAME = "block_attention"
"""Of the kernel in a compiled program."""

COPIED = 512 * 2**10
"""Bytes that are copied together, at most, but for a single block."""

MOST_BLOCKS = 8
"""Blocks that are copied together, at most."""

BUFFERS = 4
"""How many times that many there is room for, at most; at least two."""

NEAR = 8 * 2**20
"""Bytes of fast memory for them, at most."""

LISTED = 768 * 2**10
"""Bytes of the lists of blocks, at most: they lie in scalar memory, of which there is 1 MiB."""


def kernel_takes(stored: KeyValues, queries: Float[Array, "B K G D"], pairs: int) -> bool:
    """Whether the kernel is for one device's arrays: by dtypes and sizes. `pairs`: the length of the work list."""
    page, dim = stored.values.shape[-2:]
    dtypes = stored.keys.dtype in (jnp.float32, jnp.bfloat16, jnp.int8) and queries.dtype in (jnp.float32, jnp.bfloat16)
    fits = 2 * _block_bytes(stored) <= NEAR and 4 * (2 * pairs + 2 * queries.shape[0]) <= LISTED
    return dtypes and page % LANES == 0 and dim in (64, 128, 256) and fits


def on_own_heads(stored: KeyValues, work: WorkList, queries: Float[Array, "B K G D"], **options: Any) -> Partial:
    """`block_sums`, inside of what divides the rows: each device along `tensor` has key heads of its own.

    Where the heads do not divide, each device has them all, as the blocks do.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return block_sums(stored, work, queries, **options)
    heads = partition_spec((None, "kv_heads"), queries.shape[:2], mesh)
    behind_layers = PartitionSpec(*[None] * (options["layer"] is not None), *heads)
    arrays = {name: x for name, x in options.items() if isinstance(x, jax.Array)}

    def local(stored: KeyValues, work: WorkList, queries: Array, arrays: dict[str, Array]) -> Partial:
        return block_sums(stored, work, queries, **options | arrays)

    divided = jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(behind_layers, PartitionSpec(), heads, PartitionSpec()),
        out_specs=heads,
        axis_names=set(RULES["kv_heads"]),
        check_vma=False,
    )
    return divided(stored, work, queries, arrays)


def block_sums(
    stored: KeyValues,
    work: WorkList,
    queries: Float[Array, "B K G D"],
    *,
    position: Int[Array, " B"],
    layer: Int[Array, ""] | None = None,
    window: Any = None,
    cap: float = 0.0,
    interpret: Any = False,
) -> Partial:
    """`blocks.attend_to_blocks` on one device: the sums over the blocks alone, which are to be added to others.

    `interpret`: runs the kernel step by step on any backend, for tests.
    """
    rows, kv_heads, group, dim = queries.shape
    page = stored.values.shape[-2]
    # Narrow values would fill half of each row of a tile. As the keys lie, they fill it; the compiler keeps them so.
    turned = dim % LANES != 0
    arrays = [stored.keys, stored.values.swapaxes(-1, -2) if turned else stored.values]
    if stored.key_scales is not None and stored.value_scales is not None:
        arrays += [stored.key_scales, stored.value_scales]
    together = max(min(COPIED // _block_bytes(stored), MOST_BLOCKS), 1)
    buffers = max(min(NEAR // (together * _block_bytes(stored)), BUFFERS), 2)
    tokens = together * page
    near: list[tuple[int, ...]] = [(kv_heads, dim, tokens)]
    near += [(kv_heads, dim, tokens) if turned else (kv_heads, tokens, dim)]
    near += [(kv_heads, tokens)] * (len(arrays) - 2)
    bits = (page - 1).bit_length()
    lists = [
        work.ends,
        work.block,
        (work.position << bits) + work.first,
        jnp.zeros_like(position) if window is None else position - window,
        jnp.zeros(1, jnp.int32) if layer is None else layer.astype(jnp.int32).reshape(1),
    ]

    def of_row(last: int) -> pl.BlockSpec:
        return pl.BlockSpec((1, kv_heads, group, last), lambda row, *_: (row, 0, 0, 0))

    body = functools.partial(
        attend_row,
        count=len(arrays),
        page=page,
        bits=bits,
        turned=turned,
        layered=layer is not None,
        windowed=window is not None,
        cap=cap,
    )
    stats, out = pl.pallas_call(
        body,
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=len(lists),
            grid=(rows,),
            in_specs=[of_row(dim), *[pl.BlockSpec(memory_space=pl.ANY)] * len(arrays)],
            out_specs=[of_row(LANES), of_row(dim)],
            scratch_shapes=[
                *(pltpu.VMEM((buffers, *shape), x.dtype) for shape, x in zip(near, arrays, strict=True)),
                pltpu.VMEM((kv_heads, group, LANES), jnp.float32),
                pltpu.VMEM((kv_heads, group, LANES), jnp.float32),
                pltpu.SMEM((4,), jnp.int32),
                pltpu.SemaphoreType.DMA((buffers,)),
            ],
        ),
        out_shape=[jax.ShapeDtypeStruct((rows, kv_heads, group, last), jnp.float32) for last in (LANES, dim)],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("arbitrary",)),
        cost_estimate=_estimate(stored, queries, work.block.shape[0] // 2),
        name=NAME,
        interpret=interpret,
    )(*lists, queries, *arrays)
    return stats[..., 0], stats[..., 1], out


def _block_bytes(stored: KeyValues) -> int:
    """Of one block in one layer."""
    heads, dim, page = stored.keys.shape[-3:]
    scales = 0 if stored.key_scales is None else 2 * stored.key_scales.dtype.itemsize
    return heads * page * (2 * dim * stored.keys.dtype.itemsize + scales)


def _estimate(stored: KeyValues, queries: Float[Array, "B K G D"], pairs: int) -> pl.CostEstimate:
    """For the compiler, which orders other work around the kernel by it."""
    rows, heads, group, dim = queries.shape
    scores = pairs * heads * group * stored.keys.shape[-1]
    moved = queries.size * (queries.dtype.itemsize + 4) + rows * heads * group * 4 * LANES
    return pl.CostEstimate(
        flops=4 * scores * dim, transcendentals=scores, bytes_accessed=pairs * _block_bytes(stored) + moved
    )
