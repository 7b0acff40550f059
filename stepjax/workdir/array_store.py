"""Named arrays to and from a folder through orbax, with agreement among several processes.

Orbax is imported on first use: it takes a third of a second, which commands without checkpoints save.
"""

import functools
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from stepjax.workdir.checkpoint_format import DamagedError, LeafName, nested, read_manifest, reason

BARRIER_SECONDS = 600
"""How long the processes of a run wait for one another when a checkpoint is written or read. A lost process ends the
run earlier (`stepjax.distributed.watch`)."""


@functools.cache
def _orbax() -> Any:
    from absl import logging as absl_logging
    from orbax.checkpoint import v1 as ocp

    # Orbax logs its progress, and a page of traceback for every failure that it raises as well: the raised one is
    # enough. The filter looks at the source of a record, so other records are kept.
    def from_elsewhere(record: logging.LogRecord) -> bool:
        return "orbax" not in record.pathname or record.levelno >= logging.CRITICAL

    absl_logging.get_absl_logger().addFilter(from_elsewhere)
    return ocp


def _context(*, partial: bool = False) -> Any:
    """Options for few files and quick saves: a checkpoint of 1 MB or 100 GB has about ten files for each process.

    OCDBT packs the arrays of a process into one file, so there is one fsync and not one for each array. Weights hardly
    compress, and doing so is the greater part of the time. Shardings and chunk shapes are not stored: the reader always
    says which sharding it wants. Replicated arrays are divided among processes, but not among the devices of one, which
    would compile a slice for each array and device and write no faster.
    """
    context = _orbax().Context()
    saving = context.array.saving
    saving.use_ocdbt = True
    saving.use_compression = False
    saving.enable_write_sharding_file = False
    saving.use_replica_parallel = jax.process_count() > 1
    saving.array_metadata_store = None
    context.pytree.loading.partial_load = partial
    context.async_options.timeout_secs = BARRIER_SECONDS
    return context


def start_writing(folder: Path, leaves: Mapping[LeafName, jax.Array]) -> Callable[[], None]:
    """Takes the arrays to the host and starts to write them to `folder`; the result waits for the end of it.

    The arrays may be donated as soon as this returns. On accelerators orbax has copied them by then. On CPU it holds
    NumPy views of the buffers, no copies; while such a view lives, XLA declines the donation and computes into a new
    buffer. A test holds the write back to make sure of it.
    """
    for name, leaf in leaves.items():
        if not isinstance(leaf, jax.Array) or jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            raise TypeError(f"leaf {'/'.join(name)} is {leaf!r}: state holds jax.Arrays, keys as jax.random.key_data")
    # Orbax refuses arrays without elements; the manifest says all there is to know about them.
    tree = nested({name: leaf for name, leaf in leaves.items() if leaf.size})
    # Reading buffers is the purpose here, also in a run that forbids implicit transfers.
    with _context(), jax.transfer_guard("allow"):
        return _orbax().save_async(folder, tree, overwrite=True).result


def read_arrays(folder: Path, wanted: Mapping[LeafName, jax.ShapeDtypeStruct]) -> dict[LeafName, jax.Array]:
    """Reads the wanted arrays, and only those, straight into their shardings.

    Raises:
      DamagedError: the files cannot be decoded.
    """
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    placed = {
        name: leaf if leaf.sharding is not None else jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device)
        for name, leaf in wanted.items()
    }
    arrays: dict[LeafName, jax.Array] = {}
    if present := {name: leaf for name, leaf in placed.items() if leaf.size}:
        try:
            with _context(partial=True), jax.transfer_guard("allow"):
                tree = _orbax().load(folder, nested(present))
        except Exception as error:
            if _out_of_memory(error):
                raise
            raise DamagedError(reason(error)) from error
        for name in present:
            node = tree
            for key in name:
                node = node[key]
            arrays[name] = node
    for name in placed.keys() - present.keys():
        shape, dtype, sharding = placed[name].shape, placed[name].dtype, placed[name].sharding
        arrays[name] = jax.jit(jnp.zeros, static_argnums=(0, 1), out_shardings=sharding)(shape, dtype)
    return {name: arrays[name] for name in wanted}


def is_readable(folder: Path) -> bool:
    """Whether all arrays of a checkpoint's folder can be decoded; reads them all, on one process."""
    try:
        leaves = read_manifest(folder)["leaves"].items()
        wanted = {}
        for name, text in leaves:  # as `checkpoint_format.describe` writes them
            dtype, _, sizes = text.removesuffix("]").partition("[")
            shape = tuple(int(size) for size in sizes.split(",") if size)
            wanted[tuple(name.split("/"))] = jax.ShapeDtypeStruct(shape, jnp.dtype(dtype))
        read_arrays(folder, wanted)
    except DamagedError:
        return False
    return True


def _out_of_memory(error: BaseException | None) -> bool:
    """True where a device or the host ran out of memory: not the checkpoint's fault."""
    while error is not None:
        if isinstance(error, (MemoryError, jax.errors.JaxRuntimeError)):
            return True
        error = error.__cause__ or error.__context__
    return False
