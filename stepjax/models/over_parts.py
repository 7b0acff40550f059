"""Attention on each device by itself: its rows and heads; of rows that are cut, its parts and the whole row's keys.

Keys and values are the only hidden states that cross `context`: each layer gathers them, and the backward pass sums
their gradients and leaves each device those of its own part.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int

from stepjax.parallel import constrain, partition_spec

HEADS = ("batch", "heads", "time", "head_dim")
KEY_HEADS = ("batch", "kv_heads", "time", "head_dim")


def gathered_columns(columns: tuple[Int[Array, "B T"], ...], parts: int) -> tuple[Int[Array, "B S"], ...]:
    """Numbers of the keys that each row's queries look at, in the order in which `over_parts` gathers keys."""
    if parts == 1:
        return columns

    def gathered(x: Int[Array, "B T"]) -> Int[Array, "B S"]:
        apart = constrain(x.reshape(parts, -1, x.shape[1]), None, "rows")
        whole = apart.swapaxes(0, 1).reshape(apart.shape[1], -1)
        return constrain(jnp.tile(whole, (parts, 1)), "batch")

    return tuple(gathered(x) for x in columns)


def over_parts(
    attend: Callable[..., Float[Array, "B H T D"]],
    queries: Float[Array, "B H T D"],
    keys: Float[Array, "B K T D"],
    values: Float[Array, "B K T D"],
    *seen: Array,
    parts: int,
) -> Float[Array, "B H T D"]:
    """`attend(queries, keys, values, *seen)` with the keys and values of all parts of each row; `seen`: arrays of its
    rows, `[B, …]`, which tell what is seen.

    Whole rows (`parts` 1) leave their division to the compiler.
    """
    if parts == 1:
        return attend(queries, keys, values, *seen)

    def local(q: Array, k: Array, v: Array, *seen: Array) -> Array:
        k, v = (gathered_keys(x) for x in (k, v))
        return attend(q, k, v, *seen)

    mesh = jax.sharding.get_abstract_mesh()
    assert mesh.shape.get("context") == parts, f"rows are cut into {parts} parts, on a mesh of {dict(mesh.shape)}"
    return by_heads(local, queries, keys, values, *((x, partition_spec(("batch",), x.shape, mesh)) for x in seen))


def gathered_keys(x: Float[Array, "B K T D"]) -> Float[Array, "B K S D"]:
    """Inside of `by_heads`: the keys of all parts of the rows, one part after the other."""
    return jax.lax.all_gather(x, "context", axis=2, tiled=True)


def by_heads(
    local: Callable[..., Float[Array, "B H T D"]],
    queries: Float[Array, "B H T D"],
    keys: Float[Array, "B K T D"],
    values: Float[Array, "B K T D"],
    *more: tuple[Any, Any],
) -> Float[Array, "B H T D"]:
    """`local(queries, keys, values, *more)` on every device of the mesh in context, with its rows and heads.

    `more`: further arrays (or trees of them), each with its `PartitionSpec`.
    """
    arrays = [array for array, _ in more]
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return local(queries, keys, values, *arrays)
    heads, key_heads = (partition_spec(n, x.shape, mesh) for n, x in ((HEADS, queries), (KEY_HEADS, keys)))
    if _entry(heads, 1) != _entry(key_heads, 1):
        # The key heads do not divide: every device takes those of its query heads, so each query head gets its own.
        keys, values = (jnp.repeat(x, queries.shape[1] // x.shape[1], axis=1) for x in (keys, values))
        key_heads = heads
    specs = (heads, key_heads, key_heads, *(spec for _, spec in more))
    divided = jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=heads, check_vma=False)
    return divided(queries, keys, values, *arrays)


def _entry(spec: PartitionSpec, i: int):
    return spec[i] if i < len(spec) else None
