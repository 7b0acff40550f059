"""One small decoder that the tests share, so that its programs compile once a process."""

import functools

import jax
import numpy as np

from stepjax.models import DecoderConfig, Definition, LanguageModel, ScoreModel, StepReader

CONFIG = DecoderConfig(
    vocab=40, layers=2, width=32, heads=4, kv_heads=2, head_dim=8, mlp=48, qkv_bias=True, qk_norm=True, tied=False
)


@functools.cache
def policy() -> Definition[LanguageModel]:
    return Definition(lambda rngs: LanguageModel(CONFIG, rngs))


@functools.cache
def scorer(outputs: int = 3) -> Definition[ScoreModel]:
    return Definition(lambda rngs: ScoreModel(CONFIG, outputs, rngs))


@functools.cache
def reader() -> Definition[StepReader]:
    return Definition(lambda rngs: StepReader(CONFIG, 1, 3, rngs))


def random_params(definition: Definition, seed: int):
    """Every parameter random, heads, biases and norms too: nothing is trivially right. Drawn by NumPy: no compiling."""
    rng = np.random.default_rng(seed)

    def draw(path, shape):
        is_norm = path[-1].key.endswith("norm")
        return np.asarray(is_norm + (0.1 if is_norm else 0.25) * rng.normal(size=shape.shape), np.float32)

    with jax.ensure_compile_time_eval():  # the first caller may be a function that is being traced
        return jax.device_put(jax.tree.map_with_path(draw, definition.shapes))


@functools.cache
def policy_params():
    return random_params(policy(), 0)


@functools.cache
def scorer_params(outputs: int = 3):
    return random_params(scorer(outputs), 1)


@functools.cache
def reader_params():
    return random_params(reader(), 2)
