"""JAX's own random numbers for many keys at once, written out so that they fuse into the sampling loop.

On a CPU, XLA runs the 20 rounds of Threefry as a loop in memory, which dominates a decode step of a small model. The
rounds unrolled give the very same bits [Salmon 2011]; `jax.random` is the reference in the tests.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, UInt32

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def _threefry(k0: Array, k1: Array, x0: Array, x1: Array) -> tuple[Array, Array]:
    """Threefry-2x32: two words under the key (k0, k1); all uint32, broadcast."""
    schedule = (k0, k1, k0 ^ k1 ^ jnp.uint32(0x1BD11BDA))
    x0, x1 = x0 + k0, x1 + k1
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x0 = x0 + x1
            x1 = (x1 << rotation) | (x1 >> (32 - rotation))
            x1 = x0 ^ x1
        x0 = x0 + schedule[(group + 1) % 3]
        x1 = x1 + schedule[(group + 2) % 3] + jnp.uint32(group + 1)
    return x0, x1


def _words(keys: PRNGKeyArray) -> tuple[Array, Array] | None:
    """The two words of each key, or None where they are of another kind than Threefry's."""
    if str(jax.random.key_impl(keys)) != "threefry2x32":
        return None
    data: UInt32[Array, "... 2"] = jax.random.key_data(keys)
    return data[..., 0], data[..., 1]


def fold_in(keys: PRNGKeyArray, numbers: Array) -> PRNGKeyArray:
    """`jax.random.fold_in` of each key (or of one key) and number."""
    words = _words(keys)
    if words is None:
        keys = jnp.broadcast_to(keys, numbers.shape)
        return jax.vmap(jax.random.fold_in)(keys, numbers)
    both = _threefry(*words, jnp.zeros((), jnp.uint32), numbers.astype(jnp.uint32))
    return jax.random.wrap_key_data(jnp.stack(jnp.broadcast_arrays(*both), axis=-1), impl="threefry2x32")


def gumbel(keys: PRNGKeyArray, size: int) -> Float[Array, "B V"]:
    """`jax.random.gumbel(key, (size,))` of each key, float32."""
    words = _words(keys)
    if words is None or not jax.config.values["jax_threefry_partitionable"]:
        return jax.vmap(lambda key: jax.random.gumbel(key, (size,)))(keys)
    k0, k1 = (word[:, None] for word in words)
    first, second = _threefry(k0, k1, jnp.zeros((), jnp.uint32), jnp.arange(size, dtype=jnp.uint32)[None])
    # 23 random bits as the mantissa of a number in [1, 2), then to [tiny, 1).
    mantissa = ((first ^ second) >> 9) | jnp.uint32(0x3F800000)
    tiny = jnp.finfo(jnp.float32).tiny
    uniform = jax.lax.bitcast_convert_type(mantissa, jnp.float32) - 1.0
    uniform = jnp.maximum(tiny, uniform * (1.0 - tiny) + tiny)
    return -jnp.log(-jnp.log(uniform))
