"""Whether a training state may be saved: all of its numbers are finite."""

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool

from stepjax.learners.optimizers import State
from stepjax.parallel import replicated
from stepjax.programs import Program


def finite_program(state: State, mesh: Mesh) -> Program:
    """`(state) -> bool`, True where every parameter and every moment is finite. `state` is the abstract state."""

    def finite(state: State) -> Bool[Array, ""]:
        floats = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
        return jnp.stack([jnp.all(jnp.isfinite(x)) for x in floats]).all()

    return Program("finite", finite, mesh=mesh, inputs=(state,), out_shardings=replicated(mesh))
