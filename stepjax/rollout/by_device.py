"""What each device along the batch does with its own slots, prompts and rows: nothing of it crosses the mesh."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh, PartitionSpec

from stepjax.models.cache import Cache
from stepjax.parallel import RULES
from stepjax.rollout.slots import Pool, Slots


def on_each_device(function: Callable[..., Any], mesh: Mesh | None, inputs: Any, outputs: Any) -> Callable[..., Any]:
    """`function` on what each device along the batch holds: nothing in it crosses the mesh.

    `inputs` and `outputs` hold, for each array, the dimension that is divided (None: whole everywhere).
    """
    if mesh is None:
        return function
    batch = RULES["batch"]

    def spec(dimension: int | None) -> PartitionSpec:
        return PartitionSpec() if dimension is None else PartitionSpec(*([None] * dimension), batch)

    in_specs, out_specs = (
        jax.tree.map(spec, tree, is_leaf=lambda x: x is None or isinstance(x, int)) for tree in (inputs, outputs)
    )
    return jax.shard_map(
        function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, axis_names=set(batch), check_vma=False
    )


def row_axes(tree: Any, leading: int) -> Any:
    """Which dimension of slots or of a pool holds the rows; None where there is none."""
    inner = leading + (0 if isinstance(tree.layers if isinstance(tree, Pool) else tree.cache.layers, tuple) else 1)
    if isinstance(tree, Pool):
        layers = jax.tree.map(lambda _: inner, tree.layers)
        return Pool(hidden=leading, layers=layers, positions=leading, segments=leading)  # type: ignore[arg-type]
    layers = jax.tree.map(lambda _: inner, tree.cache.layers)
    cache = Cache(layers=layers, positions=leading, segments=leading, index=None)  # type: ignore[arg-type]
    axes: dict[str, Any] = {f.name: leading for f in dataclasses.fields(tree)} | {"cache": cache}
    return Slots(**axes)
