"""One small decoder that the tests share, so that its programs compile once a process."""

import functools

import jax
import jax.numpy as jnp

from stepjax.models import DecoderConfig, Definition, LanguageModel, ScoreModel

CONFIG = DecoderConfig(
    vocab=40, layers=2, width=32, heads=4, kv_heads=2, head_dim=8, mlp=48, qkv_bias=True, qk_norm=True, tied=False
)


@functools.cache
def policy() -> Definition[LanguageModel]:
    return Definition(lambda rngs: LanguageModel(CONFIG, rngs))


@functools.cache
def scorer(outputs: int = 3) -> Definition[ScoreModel]:
    return Definition(lambda rngs: ScoreModel(CONFIG, outputs, rngs))


def noisy(params, seed: int = 0):
    """Every parameter moved at random, zero-initialised heads and biases too: nothing is trivially right."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    moved = [x + 0.1 * jax.random.normal(k, x.shape, jnp.float32) for x, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, moved)


@functools.cache
def policy_params():
    return noisy(jax.jit(policy().init)(jax.random.key(0)))


@functools.cache
def scorer_params(outputs: int = 3):
    return noisy(jax.jit(scorer(outputs).init)(jax.random.key(1)), 1)
