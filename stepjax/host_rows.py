"""The rows of a batch on each process: it reads and rates its own ones, and gathers what all processes need."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from stepjax.distributed.meet import meet
from stepjax.distributed.watch import activity
from stepjax.parallel import batch_sharding, put


def share_bytes(payload: bytes) -> list[bytes]:
    """Every process's payload, in their order; all processes must call it."""
    if jax.process_count() == 1:
        return [payload]
    from jax.experimental import multihost_utils

    meet("share_bytes")
    with activity.wait(), jax.transfer_guard("allow"):
        sizes = multihost_utils.process_allgather(np.array([len(payload)], np.int32)).reshape(-1)
        # A power of two: few sizes are compiled.
        width = 1 << max(int(sizes.max()) - 1, 0).bit_length()
        padded = np.zeros(width, np.uint8)
        padded[: len(payload)] = np.frombuffer(payload, np.uint8)
        found = multihost_utils.process_allgather(padded)
    return [found[p, :size].tobytes() for p, size in enumerate(sizes)]


class HostRows:
    """The rows of a batch that this process handles: those on its devices, each row having one process.

    Rows that lie on devices of several processes (a tensor axis across hosts) belong to the first of these; so a
    process may have none.

    Attributes:
      mine: this process's rows, int[n], rising.
      shared: whether a row lies on devices of several processes.
    """

    def __init__(self, mesh: Mesh, count: int):
        self.count, self._sharding = count, batch_sharding(mesh)
        owner = np.full(count, np.iinfo(np.int64).max)
        last = np.full(count, -1)
        places: Mapping[Any, Any] = self._sharding.devices_indices_map((count,))
        for device, (rows,) in places.items():
            owner[rows] = np.minimum(owner[rows], device.process_index)
            last[rows] = np.maximum(last[rows], device.process_index)
        self.shared = bool((owner != last).any())
        self.mine = np.flatnonzero(owner == jax.process_index())
        self._order = np.argsort(owner, kind="stable")
        """The rows of process 0, then those of process 1, …"""

    def local(self, tree: Any) -> Any:
        """This process's rows of device arrays whose first dimension is the batch, as NumPy arrays."""
        with activity.wait():
            return jax.tree.map(self._local, tree)

    def _local(self, x: jax.Array) -> np.ndarray:
        if not isinstance(x, jax.Array) or x.is_fully_addressable:
            return jax.device_get(x)[self.mine]
        found = np.zeros(x.shape, x.dtype)
        seen = np.zeros(x.shape, bool)
        for shard in x.addressable_shards:
            found[shard.index], seen[shard.index] = jax.device_get(shard.data), True
        if not seen[self.mine].all():
            raise ValueError(f"rows {self.mine} of a batch are not on this process's devices: {x.sharding}")
        return found[self.mine]

    def put(self, tree: Any) -> Any:
        """Arrays of this process's rows, `[len(mine), …]`, as device arrays of the whole batch."""
        if jax.process_count() == 1:
            return put(tree, self._sharding)
        if self.shared:
            return put(jax.tree.map(self.gather, tree), self._sharding)
        return jax.tree.map(self._put, tree)

    def _put(self, own: np.ndarray) -> jax.Array:
        whole = np.zeros((self.count, *own.shape[1:]), own.dtype)
        whole[self.mine] = own  # the others' rows are never read
        return put(whole, self._sharding)

    def gather(self, own: np.ndarray) -> np.ndarray:
        """The rows of all processes, `[count, …]`, from each one's own; the same dtype and row shape everywhere."""
        if jax.process_count() == 1:
            return own
        parts = share_bytes(np.ascontiguousarray(own).tobytes())
        found = np.frombuffer(b"".join(parts), own.dtype).reshape(self.count, *own.shape[1:])
        whole = np.empty_like(found)
        whole[self._order] = found
        return whole

    def exchange(self, own: Sequence[Any]) -> list[Any]:
        """JSON-able values of all rows in their order, from each process's own."""
        if jax.process_count() == 1:
            return list(own)
        values = [v for part in share_bytes(json.dumps(list(own)).encode()) for v in json.loads(part)]
        whole: list[Any] = [None] * self.count
        for row, value in zip(self._order, values, strict=True):
            whole[row] = value
        return whole
