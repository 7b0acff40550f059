"""Mesh, logical axis rules, and the two crossings between host and device.

Parameters and activations name their dimensions ("embed", "heads", …); only `RULES` maps names to
mesh axes. The same code shards over eight CPU devices and over a pod.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import jax
import numpy as np
from jax.experimental.mesh_utils import create_device_mesh
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from stepjax.config import MeshOptions
from stepjax.distributed.meet import meet
from stepjax.distributed.watch import activity
from stepjax.errors import UserError

MESH_AXES = ("data", "fsdp", "context", "tensor")
"""From the slowest to the fastest: devices that talk most in each layer are neighbours."""

RULES: dict[str, tuple[str, ...]] = {
    # Rows that stand alone, and parts of rows (`row_parts.py`): the parts come first, so that a device has one part
    # of each of its rows, however many those are.
    "batch": ("context", "data", "fsdp"),
    # Whole rows beside their parts: keys and values, which every part of a row looks at.
    "rows": ("data", "fsdp"),
    "vocab": ("tensor",),
    "embed": ("context", "fsdp"),  # in the batch's order: what lies along one passes to the other in one exchange
    "heads": ("tensor",),
    "kv_heads": ("tensor",),
    "mlp": ("tensor",),
    # Activations keep their width whole: "embed" shards parameters only.
    "layers": (),
    "head_dim": (),
    "width": (),
    "time": (),
    "outputs": (),
    "rank": (),
}


def make_mesh(
    data: int = -1, fsdp: int = 1, tensor: int = 1, context: int = 1, *, devices: Sequence[Any] | None = None
) -> Mesh:
    """The mesh of these sizes; an axis of −1 takes the devices that the others leave (one axis at most)."""
    devices = list(jax.devices() if devices is None else devices)
    sizes = {"data": data, "fsdp": fsdp, "context": context, "tensor": tensor}
    if list(sizes.values()).count(-1) > 1 or any(s == 0 or s < -1 for s in sizes.values()):
        told = [data, fsdp, tensor, *([context] if context != 1 else [])]
        raise UserError(
            f"config.mesh: sizes {told} of ({', '.join(_told(sizes))}) must be positive, one of them at most -1"
        )
    known = int(np.prod([s for s in sizes.values() if s != -1]))
    rest = max(len(devices) // known, 1)
    filled = -1 in sizes.values()
    sizes = {axis: rest if size == -1 else size for axis, size in sizes.items()}
    total = int(np.prod(list(sizes.values())))
    if total > len(devices) or (filled and total != len(devices)):
        raise UserError(_no_fit(sizes, len(devices)))
    idle = {d.process_index for d in devices} - {d.process_index for d in devices[:total]}
    if idle:
        raise UserError(
            f"config.mesh: {_product(sizes)} leaves process {min(idle)} without a "
            f"device; start fewer processes, or use all {len(devices)} devices"
        )
    shape = tuple(sizes[axis] for axis in MESH_AXES)
    types = (AxisType.Auto,) * len(shape)
    try:
        return jax.make_mesh(shape, MESH_AXES, axis_types=types, devices=devices[:total])
    except NotImplementedError:  # some axis is no product of the network's axes: it takes a part of one
        placed = create_device_mesh(shape, devices[:total], allow_split_physical_axes=True)
        return Mesh(placed, MESH_AXES, axis_types=types)


def mesh_of(options: MeshOptions, *, devices: Sequence[Any] | None = None) -> Mesh:
    """The mesh of the options."""
    return make_mesh(options.data, options.fsdp, options.tensor, options.context, devices=devices)


def _told(sizes: Mapping[str, int]) -> list[str]:
    """The axes that people read of: without a context axis of 1, which rows that fit a device do not need."""
    return ["data", "fsdp", "tensor", *(["context"] if sizes["context"] != 1 else [])]


def _product(sizes: Mapping[str, int]) -> str:
    axes = _told(sizes)
    return f"{' × '.join(axes)} = {' × '.join(str(sizes[axis]) for axis in axes)}"


def _no_fit(sizes: Mapping[str, int], devices: int) -> str:
    axes = [f"--config.mesh.{axis}=1" for axis in _told(sizes) if sizes[axis] > 1]
    cure = f"set {' '.join(axes)}" if devices == 1 else f"change {' '.join(axes)} (-1: the devices that others leave)"
    return (
        f"config.mesh: {_product(sizes)} does not fit {devices} "
        f"device{'s' * (devices != 1)}; {cure}, or start it where there are {int(np.prod(list(sizes.values())))}"
    )


def partition_spec(
    axes: Sequence[str | None], shape: Sequence[int] | None = None, mesh: Mesh | AbstractMesh | None = None
) -> PartitionSpec:
    """Logical names to mesh axes; of several axes of a name those, from the first on, that divide the dimension. One
    that none divides stays whole (two key heads on four tensor devices, say); that check needs `shape` and `mesh`. Axes
    that a surrounding `shard_map` has divided by are left out."""
    entries: list[Any] = []
    for i, name in enumerate(axes):
        names = RULES[name] if name is not None else ()
        if names and shape is not None and mesh is not None:
            names = _dividing(names, shape[i], mesh)
            if isinstance(mesh, AbstractMesh):
                names = tuple(n for n in names if n not in mesh.manual_axes)
        entries.append(names if len(names) > 1 else (names[0] if names else None))
    while entries and entries[-1] is None:
        entries.pop()
    return PartitionSpec(*entries)


def _dividing(names: tuple[str, ...], length: int, mesh: Mesh | AbstractMesh) -> tuple[str, ...]:
    for count in range(len(names), 0, -1):
        size = int(np.prod([mesh.shape[n] for n in names[:count]]))
        if length % size == 0 and (size > 1 or count == len(names)):
            return names[:count]
    return ()


def named_sharding(mesh: Mesh, axes: Sequence[str | None], shape: Sequence[int] | None = None) -> NamedSharding:
    """The sharding of an array whose dimensions have the logical names `axes`; see `partition_spec`."""
    return NamedSharding(mesh, partition_spec(axes, shape, mesh))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of an array that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows over all axes but tensor."""
    return NamedSharding(mesh, PartitionSpec(RULES["batch"]))


def batch_devices(mesh: Mesh) -> int:
    """Over how many devices a batch's rows are divided."""
    return int(np.prod([mesh.shape[axis] for axis in RULES["batch"]]))


def row_groups(mesh: Mesh) -> int:
    """Over how many groups of devices packed rows are divided; each group divides its rows into `row_parts`."""
    return int(np.prod([mesh.shape[axis] for axis in RULES["rows"]]))


def row_parts(mesh: Mesh) -> int:
    """Into how many parts (`row_parts.py`) a packed row is cut in passes of training: the size of `context`."""
    return mesh.shape["context"]


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """Asks for an activation's sharding by logical names; without a mesh in context (a plain call) it does nothing."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return x
    return jax.lax.with_sharding_constraint(x, partition_spec(axes, x.shape, mesh))


def on_each_device(
    function: Callable[..., Any], mesh: Mesh | AbstractMesh | None, inputs: Any, outputs: Any
) -> Callable[..., Any]:
    """`function` on the arrays of each device along the batch: nothing in it crosses the mesh.

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


def put(tree: Any, sharding: Any) -> Any:
    """Host arrays to the device, explicitly; every process passes the same global array, each device takes its part.

    `sharding` is one sharding for all leaves, or a tree of them.
    """
    if isinstance(sharding, NamedSharding):
        return jax.tree.map(lambda x: _put(np.asarray(x), sharding), tree)
    return jax.tree.map(lambda x, s: _put(np.asarray(x), s), tree, sharding)


def _put(x: np.ndarray, sharding: NamedSharding) -> jax.Array:
    if sharding.is_fully_addressable:
        return jax.device_put(x, sharding)
    with jax.transfer_guard("allow"):
        return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])


def fetch(tree: Any) -> Any:
    """Device arrays to host arrays (NumPy), explicitly. Of several processes each gets the whole arrays, and all of
    them must call it."""
    with activity.wait():
        leaves = jax.tree.leaves(tree)
        if all(not isinstance(x, jax.Array) or x.is_fully_addressable for x in leaves):
            return jax.device_get(tree)
        return jax.tree.map(_fetch, tree)


def _fetch(x: Any) -> Any:
    if not isinstance(x, jax.Array) or x.is_fully_addressable:
        return jax.device_get(x)
    if x.is_fully_replicated:
        return jax.device_get(x.addressable_data(0))
    from jax.experimental import multihost_utils

    meet("fetch")
    with jax.transfer_guard("allow"):
        return multihost_utils.process_allgather(x, tiled=True)


def key_on(mesh: Mesh, seed: int, *folds: int) -> jax.Array:
    """A random key on every device of the mesh: that of the seed, with the numbers folded in one after the other."""

    def make() -> jax.Array:
        return functools.reduce(jax.random.fold_in, folds, jax.random.key(seed))

    with jax.transfer_guard("allow"):  # a seed has to reach the device, also from within a guarded loop
        return jax.jit(make, out_shardings=replicated(mesh))()


def only_asked_transfers() -> AbstractContextManager[None]:
    """Inside, an array that crosses between host and device, or changes its sharding, otherwise than by `put`, `fetch`
    and their like is an error instead of a silent delay. Loops of training run in it, their first round included."""
    return jax.transfer_guard("disallow")


def is_main_process() -> bool:
    """Whether this process is process 0, which writes the files of a run."""
    return jax.process_index() == 0
