"""Attention to tokens in blocks: each row to its own, however many they are.

A decode step costs what its rows hold. The (row, block) pairs of a device are worked off a few at a time, so that one
long row among short ones costs its own blocks and no more. Sums over a row's blocks are taken in their order, and their
common divisor is a power of two, whose changes are exact: which other rows there are changes no bit of a row.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from stepjax.models.attention import LOG2E, Partial, added, two_to, whole_power
from stepjax.models.backends import platform_in_context
from stepjax.models.block_kernel import kernel_takes, on_own_heads
from stepjax.models.cache import Blocks, KeyValues, WorkList
from stepjax.parallel import on_each_device

PAIRS = 16
"""Pairs that are worked off at once."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LayerBlocks:
    """The blocks of one layer; `layer`: which, where those of all layers are stacked (else None)."""

    stored: KeyValues
    work: WorkList
    layer: Array | None

    @classmethod
    def of(cls, blocks: Blocks | None, layer: Any, *, stacked: bool = False) -> "LayerBlocks | None":
        if blocks is None:
            return None
        layers = blocks.layers
        if stacked:
            assert isinstance(layers, KeyValues)
            return cls(layers, blocks.work, layer)
        assert isinstance(layers, tuple)
        return cls(layers[layer], blocks.work, None)


def work_list(
    table: Int[Array, "S B"],
    count: Int[Array, " S"],
    shared: Int[Array, " S"],
    start: Int[Array, " S"],
    prompt_length: Int[Array, " S"],
    page: int,
) -> WorkList:
    """The pairs of one device's rows.

    Args:
      table: each row's blocks; `count` of them. The first `shared` ones hold its prompt's tokens from position 0 on.
      start: the slot of its first response token in the first block after these.
    """  # fmt: skip
    rows, most = table.shape
    size = -(-rows * most // PAIRS) * PAIRS
    ends = jnp.cumsum(count)
    place = jnp.arange(size, dtype=jnp.int32)
    row = jnp.repeat(jnp.arange(rows, dtype=jnp.int32), count, total_repeat_length=size)
    number = jnp.clip(place - (ends - count)[row], 0, most - 1)
    own = number - shared[row]
    there = place < ends[-1]
    return WorkList(
        row=jnp.where(there, row, rows),
        block=jnp.where(there, table[row, number], 0),
        first=jnp.where(own == 0, start[row], 0),
        position=jnp.where(own < 0, number * page, prompt_length[row] + own * page - start[row]),
        count=ends[-1:].astype(jnp.int32),
        ends=ends.astype(jnp.int32),
    )


def attend_to_blocks(
    blocks: LayerBlocks,
    queries: Float[Array, "B K G D"],
    sums: Partial,
    *,
    position: Int[Array, " B"],
    window: Any = None,
    cap: float = 0.0,
) -> Partial:
    """Sums over the keys of `sums` and of each row's blocks.

    On TPUs a kernel reads the blocks (`block_kernel.py`), where it takes these dtypes and sizes.

    Args:
      queries: scaled, one token a row; G query heads a key head.
      position: of the queries; read where there is a window.
      window: tokens that a query sees, itself included; None: all before it.
    """
    layers = KeyValues(*(None if x is None else (1 if blocks.layer is not None else 0) for x in _fields(blocks.stored)))  # type: ignore[arg-type]
    pairs = WorkList(0, 0, 0, 0, 0, 0)  # type: ignore[arg-type]
    extra = tuple(x for x in (blocks.layer, window) if isinstance(x, jax.Array))

    def local(stored: KeyValues, work: WorkList, q: Array, sums: Partial, position: Array, *extra: Array) -> Partial:
        given = list(extra)
        layer = given.pop(0) if blocks.layer is not None else None
        seen = given.pop(0) if given else window
        if by_kernel and kernel_takes(stored, q, work.block.shape[0]):
            options = {"position": position, "layer": layer, "window": seen, "cap": cap}
            return added(sums, on_own_heads(stored, work, q, **options))
        return _attend(LayerBlocks(stored, work, layer), q, sums, position, seen, cap)

    by_kernel = platform_in_context() == "tpu"
    mesh = jax.sharding.get_abstract_mesh()
    axes = (layers, pairs, 0, (0, 0, 0), 0, *(None for _ in extra))
    call = on_each_device(local, None if mesh.empty else mesh, axes, (0, 0, 0))
    return call(blocks.stored, blocks.work, queries, sums, position, *extra)


def _fields(stored: KeyValues) -> tuple[Array | None, ...]:
    return stored.keys, stored.values, stored.key_scales, stored.value_scales


def _attend(blocks: LayerBlocks, q: Array, sums: Partial, position: Array, window: Any, cap: float) -> Partial:
    """Of one device."""
    work, dtype = blocks.work, q.dtype
    page = blocks.stored.values.shape[-2]
    slots = jnp.arange(page, dtype=jnp.int32)

    def some(carry: Any) -> Any:
        at, power, total, out = carry
        row, block, first, start = (
            jax.lax.dynamic_slice(x, (at,), (PAIRS,)) for x in (work.row, work.block, work.first, work.position)
        )
        known = jnp.minimum(row, q.shape[0] - 1)
        here = block if blocks.layer is None else (jnp.full_like(block, blocks.layer), block)
        keys, values, key_scales, value_scales = (None if x is None else x[here] for x in _fields(blocks.stored))
        assert keys is not None and values is not None
        scores = jnp.einsum("ckgd,ckds->ckgs", q[known], keys.astype(dtype), preferred_element_type=jnp.float32)
        if key_scales is not None:
            scores = scores * key_scales[:, :, None]
        if cap:
            scores = cap * jnp.tanh(scores / cap)
        seen = slots >= first[:, None]
        if window is not None:
            seen &= position[known][:, None] - (start[:, None] + slots) < window
        seen = seen[:, None, None]
        scores = jnp.where(seen, scores * LOG2E, -1e30)
        # Each pair's sums are divided by a power of its own, so that they are the same in any company.
        own = whole_power(scores)
        weights = jnp.exp2(scores - own[..., None])
        mixed = weights if value_scales is None else weights * value_scales[:, :, None]
        added = jnp.einsum(
            "ckgs,cksd->ckgd", mixed.astype(dtype), values.astype(dtype), preferred_element_type=jnp.float32
        )
        higher = power.at[row].max(own, mode="drop", indices_are_sorted=True)
        change, less = two_to(power - higher), two_to(own - higher[known])

        def plus(sums: Array, more: Array) -> Array:
            return sums.at[row].add(more, mode="drop", indices_are_sorted=True)

        return (
            at + PAIRS,
            higher,
            plus(total * change, jnp.sum(weights, axis=-1) * less),
            plus(out * change[..., None], added * less[..., None]),
        )

    return jax.lax.while_loop(lambda carry: carry[0] < work.count[0], some, (jnp.int32(0), *sums))[1:]
