"""Program: one device computation, with its abstract inputs, shardings and donations.

The run executes it, the plan compiles the very same object for a pod, the benchmark times it, the tests read its
compiled text. It is compiled ahead of time for its abstract inputs: a call with other shapes is an error, never a
silent recompilation.
"""

import time
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

from stepjax.distributed.meet import impatient, meet
from stepjax.distributed.watch import activity
from stepjax.phases import phase


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
    ):
        """`inputs`: one pytree of `jax.ShapeDtypeStruct` with shardings an argument. `donate`: indices of arguments
        whose buffers the outputs may take. `out_shardings`: a pytree prefix of the outputs' shardings (None: left
        to the compiler).

        For the plan, `turns`: most turns of a loop in it that ends by its data; `nested`: where such loops lie within
        each other, the turns of each in one of the outer one, the outermost first; `note`: sizes that were chosen.
        """
        self.name = name
        self.turns = turns
        self.trips = nested or (turns,)
        self.note = note
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
            self._ran = True
            meet(self.name)
        with activity.wait():
            return compiled(*args)


def abstract(tree: Any, sharding: Any = None) -> Any:
    """`jax.ShapeDtypeStruct`s of a pytree's leaves. `sharding`: one for all leaves, or a matching tree."""
    if sharding is None:
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)
    if isinstance(sharding, jax.sharding.Sharding):
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, sharding)
