"""Program: one device computation, with its abstract inputs, shardings and donations.

The run executes it, the plan compiles the very same object for a pod, the benchmark times it, the tests read its
compiled text. It is compiled ahead of time for its abstract inputs: a call with other shapes is an error, never a
silent recompilation.
"""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from stepjax.distributed.meet import impatient, meet
from stepjax.distributed.watch import activity
from stepjax.phases import phase, remark

oversized: list[str] = []
"""Sentences about the programs that this process ran though they need more memory than the devices have."""


class Program:
    """A pure function compiled for given abstract inputs on a mesh.

    Attributes:
      name: its name in tables.
      compile_seconds: seconds that lowering and compiling took; None before the first call.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        *,
        mesh: Mesh,
        inputs: tuple[Any, ...],
        donate: tuple[int, ...] = (),
        out_shardings: Any = None,
        turns: int = 1,
        nested: tuple[int, ...] = (),
        note: str = "",
        grows_with: str = "",
    ):
        """`inputs`: one pytree of `jax.ShapeDtypeStruct` with shardings an argument. `donate`: indices of arguments
        whose buffers the outputs may take. `out_shardings`: a pytree prefix of the outputs' shardings (None: left
        to the compiler).

        For the plan, `turns`: most turns of a loop in it that ends by its data; `nested`: where such loops lie within
        each other, the turns of each in one of the outer one, the outermost first; `note`: sizes that were chosen.
        `grows_with`: the options that its memory grows with, for whoever runs out of it.
        """
        self.name = name
        self.turns = turns
        self.trips = nested or (turns,)
        self.note, self.grows_with = note, grows_with
        self.mesh = mesh
        self.inputs = inputs
        self._out_shardings = out_shardings
        shardings = jax.tree.map(lambda x: x.sharding, inputs)
        self._jit = jax.jit(function, in_shardings=shardings, out_shardings=out_shardings, donate_argnums=donate)
        self._compiled: jax.stages.Compiled | None = None
        self._ran = False
        self.compile_seconds: float | None = None

    def lower(self) -> jax.stages.Lowered:
        """The program lowered for its abstract inputs, before compilation."""
        with jax.set_mesh(self.mesh):
            return self._jit.lower(*self.inputs)

    def compile(self) -> jax.stages.Compiled:
        """Compiles once; later calls return the same executable."""
        if self._compiled is None:
            start = time.perf_counter()
            phase(f"compiling {self.name}")
            self._compiled = self.lower().compile()
            self.compile_seconds = time.perf_counter() - start
        return self._compiled

    def outputs(self) -> Any:
        """Shapes, dtypes and asked-for shardings of the outputs, without compiling."""
        with jax.set_mesh(self.mesh):
            shapes = jax.eval_shape(self._jit, *self.inputs)
        if isinstance(self._out_shardings, jax.sharding.Sharding):
            return abstract(shapes, self._out_shardings)
        return shapes

    def __call__(self, *args: Any) -> Any:
        compiled = self.compile()
        if not self._ran or impatient():
            if not self._ran:
                self._tell_oversized(compiled)
            self._ran = True
            meet(self.name)
        with activity.wait():
            return compiled(*args)

    def _tell_oversized(self, compiled: jax.stages.Compiled) -> None:
        """Says that the program needs more memory than there is, and which options it grows with. It runs all the same:
        a system may give out memory that is never written to."""
        needed, there = program_bytes(compiled), device_bytes(self.mesh)
        if there is not None and needed > there:
            cure = f"set or lower {self.grows_with}" if self.grows_with else "take fewer or shorter rows"
            oversized.append(
                f"program {self.name} needs {needed / 1e9:,.1f} GB, and a device has {there / 1e9:,.1f} GB of memory: "
                f"{cure}"
            )
            remark(oversized[-1])


def program_bytes(compiled: jax.stages.Compiled) -> int:
    """Bytes that a device holds while the program runs, as the compiler lays them out; 0 where it does not say."""
    memory: Any = compiled.memory_analysis()
    if memory is None:
        return 0
    whole = memory.argument_size_in_bytes + memory.temp_size_in_bytes + memory.output_size_in_bytes
    return int(whole - memory.alias_size_in_bytes)


def device_bytes(mesh: Mesh) -> int | None:
    """Bytes of memory of each of this process's devices; None where it is not known. CPU devices share the host's."""
    device = mesh.local_devices[0]
    if device.platform != "cpu":
        limit = (device.memory_stats() or {}).get("bytes_limit")
        return None if limit is None else int(limit)
    found = []
    with contextlib.suppress(OSError, ValueError):
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with contextlib.suppress(OSError, ValueError):  # "max" where a container has no limit
        found.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(found) // len(mesh.local_devices) if found else None


def abstract(tree: Any, sharding: Any = None) -> Any:
    """`jax.ShapeDtypeStruct`s of a pytree's leaves. `sharding`: one for all leaves, or a matching tree."""
    if sharding is None:
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)
    if isinstance(sharding, jax.sharding.Sharding):
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, sharding)
