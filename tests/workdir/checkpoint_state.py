"""A sharded state of a few arrays, for tests of checkpoints."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P


def mesh(*sizes: int) -> Mesh:
    count = int(np.prod(sizes))
    return jax.make_mesh(sizes, ("data", "fsdp")[: len(sizes)], devices=jax.devices()[:count])


def make_state(on: Mesh, value: float = 1.0) -> dict:
    """Parameters, Adam's moments and count, a key's data; sharded over the last mesh axis where it divides."""
    axis = on.axis_names[-1]
    params = {
        "embed": jnp.full((16, 8), value, jnp.float32),
        "layers": [jnp.arange(64.0).reshape(8, 8) * value, jnp.full((8,), value, jnp.bfloat16)],
    }
    state = {
        "policy": {"params": params, "opt": optax.adamw(1e-3).init(params)},
        "key": jax.random.key_data(jax.random.key(7)),
        "none": jnp.zeros((0, 3)),
    }
    return jax.tree.map(lambda x: jax.device_put(x, NamedSharding(on, P(axis) if x.ndim == 2 else P())), state)


def abstract(state: dict, on: Mesh | None = None) -> dict:
    def leaf(x: jax.Array) -> jax.ShapeDtypeStruct:
        sharding = NamedSharding(on, x.sharding.spec if on.axis_names == x.sharding.mesh.axis_names else P())
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding) if on is None else leaf(x), state
    )


def same(a: dict, b: dict) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))
