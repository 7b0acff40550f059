"""The key-value cache of a decode loop, and attention of new tokens to it.

Keys are stored with their slots last and values with their features last: both products of a decode step then run along
contiguous memory. Where a decode loop takes the layers apart, each has arrays of its own, so that nothing is copied to
get at one layer; where it scans over them, they are stacked.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from stepjax.models.attention import Partial, grouped_attention


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class KeyValues:
    """Keys and values of S slots, of one layer or (with a leading axis) of all.

    Attributes:
      keys: [B, kv_heads, head_dim, S].
      values: [B, kv_heads, S, head_dim].
      key_scales, value_scales: float32[B, kv_heads, S], what int8 keys and values are multiplied with, one number a
        token and head; None: keys and values are plain.
    """

    keys: Array
    values: Array
    key_scales: Array | None = None
    value_scales: Array | None = None

    def write(
        self, k: Float[Array, "B K T D"], v: Float[Array, "B K T D"], at: Array, layer: Array | None = None
    ) -> "KeyValues":
        """With the keys and values of T tokens in the slots from `at` on; `layer`: of stacked ones, which."""
        key_scales = value_scales = None
        if self.key_scales is not None:
            (k, key_scales), (v, value_scales) = quantised(k), quantised(v)

        def put(into: Array | None, new: Array | None, axis: int) -> Any:
            if into is None or new is None:
                return None
            start: list[Any] = [0] * new.ndim
            start[axis] = at
            if layer is not None:
                new, start = new[None], [layer, *start]
            return jax.lax.dynamic_update_slice(into, new.astype(into.dtype), start)

        return KeyValues(
            put(self.keys, k.swapaxes(2, 3), 3),
            put(self.values, v, 2),
            put(self.key_scales, key_scales, 2),
            put(self.value_scales, value_scales, 2),
        )

    def of(self, layer: Array) -> "KeyValues":
        """Those of one layer, of stacked ones."""
        return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, layer, keepdims=False), self)


def quantised(x: Float[Array, "*rest D"]) -> tuple[Int[Array, "*rest D"], Float[Array, "*rest"]]:
    """int8 numbers and the scale to multiply them with: the largest of each D becomes ±127."""
    x = x.astype(jnp.float32)
    scale = jnp.maximum(jnp.max(jnp.abs(x), axis=-1), 1e-30) / 127
    return jnp.round(x / scale[..., None]).astype(jnp.int8), scale


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class WorkList:
    """Which block each row attends to: (row, block) pairs of one device, those of a row together and in order.

    Attributes:
      row: int32[M], not falling; the number of rows behind the last pair.
      block: int32[M].
      first: int32[M], the first slot of the block that is the row's.
      position: int32[M], position of the token in the block's slot 0 (were it the row's).
      count: int32[devices], the number of pairs.
      ends: int32[S], the number of pairs up to the last one of each of the device's rows.
    """

    row: Int[Array, " M"]
    block: Int[Array, " M"]
    first: Int[Array, " M"]
    position: Int[Array, " M"]
    count: Int[Array, " devices"]
    ends: Int[Array, " S"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Blocks:
    """Keys and values in blocks of `page` tokens that belong to no row: rows are `KeyValues`' B here, slots its S."""

    layers: KeyValues | tuple[KeyValues, ...]
    work: WorkList


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cache:
    """The tokens so far; every row writes its next token in the same slot.

    Attributes:
      layers: the keys and values, stacked, or a tuple with those of each layer.
      positions: int32[B, S], position of the token in a slot.
      segments: int32[B, S], 0 where the slot is empty (also left padding), else the token's segment.
      index: int32[], the next slot to write.
      blocks: earlier tokens of the rows, in blocks; None: there are none.
    """

    layers: KeyValues | tuple[KeyValues, ...]
    positions: Int[Array, "B S"]
    segments: Int[Array, "B S"]
    index: Int[Array, ""]
    blocks: Blocks | None = None

    @property
    def row_axis(self) -> int:
        """The dimension of the rows in the keys and values."""
        return 1 if isinstance(self.layers, KeyValues) else 0


def empty_key_values(
    layers: int, rows: int, kv_heads: int, slots: int, head_dim: int, dtype: Any, apart: bool
) -> KeyValues | tuple[KeyValues, ...]:
    """Zeros, for `rows` rows (or blocks) of `slots` tokens each."""
    narrow = jnp.dtype(dtype) == jnp.int8

    # One zeros a field: a shared array could not be donated twice.
    def one(*leading: int) -> KeyValues:
        keys, values = (*leading, rows, kv_heads, head_dim, slots), (*leading, rows, kv_heads, slots, head_dim)
        scales = [jnp.zeros((*leading, rows, kv_heads, slots), jnp.float32) if narrow else None for _ in range(2)]
        return KeyValues(jnp.zeros(keys, dtype), jnp.zeros(values, dtype), *scales)

    return tuple(one() for _ in range(layers)) if apart else one(layers)


def empty_cache(layers: int, rows: int, kv_heads: int, slots: int, head_dim: int, dtype: Any, apart: bool) -> Cache:
    """`dtype`: of keys and values; int8 ones are kept with their scales."""
    return Cache(
        layers=empty_key_values(layers, rows, kv_heads, slots, head_dim, dtype, apart),
        positions=jnp.zeros((rows, slots), jnp.int32),
        segments=jnp.zeros((rows, slots), jnp.int32),
        index=jnp.zeros((), jnp.int32),
    )


def grown(cache: Cache, slots: int) -> Cache:
    """The cache with empty slots behind the others, `slots` in all."""
    more = slots - cache.segments.shape[1]
    if not more:
        return cache

    def wider(x: Array | None, axis: int) -> Any:
        return None if x is None else jnp.pad(x, [(0, more if a - x.ndim == axis else 0) for a in range(x.ndim)])

    def each(of: KeyValues) -> KeyValues:
        return KeyValues(wider(of.keys, -1), wider(of.values, -2), wider(of.key_scales, -1), wider(of.value_scales, -1))

    layers = each(cache.layers) if isinstance(cache.layers, KeyValues) else tuple(each(x) for x in cache.layers)
    positions, segments = wider(cache.positions, -1), wider(cache.segments, -1)
    return dataclasses.replace(cache, layers=layers, positions=positions, segments=segments)


def attend_to_cache(
    queries: Float[Array, "B H T D"],
    stored: KeyValues,
    bias: Float[Array, "B T S"],
    *,
    scale: float | None = None,
    cap: float = 0.0,
    rest: Callable[[Array, Partial], Partial] | None = None,
) -> Float[Array, "B H T D"]:
    """`attention.attend`, to one layer's cache; `rest`: as in `grouped_attention`."""
    dtype = queries.dtype

    def score(q: Array) -> Array:
        found = jnp.einsum("bktd,bkds->bkts", q, stored.keys.astype(dtype), preferred_element_type=jnp.float32)
        return found if stored.key_scales is None else found * stored.key_scales[:, :, None]

    def mix(weights: Array) -> Array:
        if stored.value_scales is not None:
            weights = weights * stored.value_scales[:, :, None]
        values = stored.values.astype(dtype)
        return jnp.einsum("bkts,bksd->bktd", weights.astype(dtype), values, preferred_element_type=jnp.float32)

    return grouped_attention(queries, stored.keys.shape[1], bias, score, mix, scale=scale, cap=cap, rest=rest)
