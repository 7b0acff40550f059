"""Peak rates of the machine: measured in the same process (a large matrix product, a copy), and the maker's figures."""

import time
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from stepjax.bench.work import Work
from stepjax.chips import REACHED, chips_of

LONG_ENOUGH = 0.05
"""Seconds above which the cost of starting a call is negligible."""


def matrix_flops(mesh: Mesh, dtype: Any, *, largest: int = 16_384) -> float:
    """FLOP/s of the fastest square matrix product of this dtype, all devices of the mesh together.

    One product a device, of float32 in JAX's default precision, as in the programs.
    """
    return _fastest(mesh, dtype, lambda n: (n, n), lambda x: x @ x, lambda n: 2.0 * n**3, 512, largest)


def copy_bandwidth(mesh: Mesh, *, largest: int = 2**28) -> float:
    """Bytes per second read and written by the fastest copy of a float32 array, all devices together."""
    return _fastest(mesh, jnp.float32, lambda n: (n,), lambda x: x + 1.0, lambda n: 8.0 * n, 2**22, largest)


def _fastest(
    mesh: Mesh,
    dtype: Any,
    dims: Callable[[int], tuple[int, ...]],
    function: Callable[[jax.Array], jax.Array],
    work: Callable[[int], float],
    size: int,
    largest: int,
) -> float:
    """Work per second of the best of a few calls, at the least size that is large enough to measure."""
    sharding = NamedSharding(mesh, PartitionSpec(tuple(mesh.axis_names)))
    while True:
        shape = (mesh.size, *dims(size))
        with jax.set_mesh(mesh):
            x = jax.jit(lambda shape=shape: jnp.full(shape, 1 / shape[-1], dtype), out_shardings=sharding)()
            # The result takes the argument's place: no new memory has to be allocated.
            call = jax.jit(jax.vmap(function), out_shardings=sharding, donate_argnums=0)
        seconds = []
        for _ in range(10):
            start = time.perf_counter()
            x = jax.block_until_ready(call(x))
            seconds.append(time.perf_counter() - start)
        if min(seconds) >= LONG_ENOUGH or 2 * size > largest:
            return work(size) * mesh.size / min(seconds)
        size *= 2


def of_public_figures(devices: Iterable[Any], work: Work, seconds: float) -> dict[str, float]:
    """The makers' figures of all devices together, the shares of them that the work reached, and the seconds that it
    would take at the shares that `stepjax plan` assumes. {} on devices of unknown figures, such as a CPU."""
    chips = chips_of(devices)
    if not chips:
        return {}
    flops, hbm = sum(chip.flops for chip in chips), sum(chip.hbm for chip in chips)
    return {
        "peak_flops": flops,
        "peak_flops_share": work.flops / seconds / flops,
        "peak_bandwidth": hbm,
        "peak_bandwidth_share": work.bytes / seconds / hbm,
        "predicted_seconds": max(work.flops / (REACHED["compute"] * flops), work.bytes / (REACHED["memory"] * hbm)),
    }
