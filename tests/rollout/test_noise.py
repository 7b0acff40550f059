"""The written-out random numbers are JAX's own, bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stepjax.rollout.noise import fold_in, gumbel

KEY = jax.random.key(5)
NUMBERS = jnp.array([0, 1, 7, 2**31 - 1, 123_456])


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_keys_and_noise_are_those_of_jax(impl):
    key = jax.random.key(5, impl=impl)
    ours = jax.jit(fold_in)(key, NUMBERS)
    theirs = jax.vmap(lambda n: jax.random.fold_in(key, n))(NUMBERS)
    np.testing.assert_array_equal(jax.random.key_data(ours), jax.random.key_data(theirs))
    again = jax.jit(fold_in)(ours, NUMBERS[::-1])  # a key a number
    np.testing.assert_array_equal(
        jax.random.key_data(again), jax.random.key_data(jax.vmap(jax.random.fold_in)(theirs, NUMBERS[::-1]))
    )
    if impl == "threefry2x32":  # the draws of rbg depend on what they are vectorised with
        found = jax.jit(lambda k: gumbel(k, 1003))(ours)
        np.testing.assert_array_equal(found, jax.vmap(lambda k: jax.random.gumbel(k, (1003,)))(theirs))


def test_the_noise_is_that_of_categorical():
    logits = jax.random.normal(KEY, (5, 33))
    keys = fold_in(KEY, NUMBERS)
    np.testing.assert_array_equal(
        jnp.argmax(logits + gumbel(keys, 33), axis=-1), jax.vmap(jax.random.categorical)(keys, logits)
    )
