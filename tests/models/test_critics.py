"""A critic with trunks of its own: each stream's values are those of its part alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from models.tiny import CONFIG, random_params

from stepjax.models import Critics, Definition, ScoreModel, StepReader, ValueHead
from stepjax.parallel import make_mesh

HEADS = (
    ValueHead("process", "shared"),
    ValueHead("outcome", "own"),
    ValueHead("kl", "none"),
    ValueHead("value", "prm", (-1.0, -0.5, 2.0)),
    ValueHead("length", "shared"),
)
RNG = np.random.default_rng(0)
TOKENS = RNG.integers(0, CONFIG.vocab, (3, 7)).astype(np.int32)
POSITIONS = np.tile(np.arange(7, dtype=np.int32), (3, 1))
ROWS = (TOKENS, POSITIONS, np.ones_like(TOKENS))


def scores(outputs: int, rngs: nnx.Rngs) -> ScoreModel:
    return ScoreModel(CONFIG, outputs, rngs)


def prm(classes: int, reader: int = 0):
    return lambda rngs: StepReader(CONFIG, reader, classes, rngs) if reader else ScoreModel(CONFIG, classes, rngs)


def outputs(make, params) -> np.ndarray:
    definition = Definition(make)
    return np.asarray(jax.jit(lambda p: definition.bind(p)(*ROWS))(params))


@pytest.mark.parametrize("classes, reader", [(3, 0), (3, 1), (2, 0), (1, 0)])
def test_each_stream_reads_its_own_part(classes, reader):
    make = prm(classes, reader)
    critics = Definition(lambda rngs: Critics(HEADS, scores, make, rngs))
    params = random_params(critics, 3)
    assert params.keys() == {"shared", "own_outcome", "own_value"}
    values = np.asarray(jax.jit(lambda p: critics.bind(p)(*ROWS))(params))
    assert values.shape == (3, 7, 5) and values.dtype == np.float32
    shared = outputs(lambda rngs: scores(2, rngs), params["shared"])
    np.testing.assert_allclose(values[..., [0, 4]], shared, rtol=1e-5, atol=1e-5)
    own = outputs(lambda rngs: scores(1, rngs), params["own_outcome"])[..., 0]
    np.testing.assert_allclose(values[..., 1], own, rtol=1e-5, atol=1e-5)
    assert not values[..., 2].any()
    logits = outputs(make, params["own_value"])
    worth = {3: [-1.0, -0.5, 2.0], 2: [-1.0, 2.0]}.get(classes)
    expected = logits[..., 0] if worth is None else np.asarray(jax.nn.softmax(logits)) @ np.array(worth, np.float32)
    np.testing.assert_allclose(values[..., 3], expected, rtol=1e-5, atol=1e-5)


def test_a_part_can_be_given_and_keeps_the_rest_fresh():
    critics = Definition(lambda rngs: Critics(HEADS, scores, prm(3), rngs))
    trained = random_params(Definition(prm(3)), 4)
    trunk = trained["trunk"]
    params = critics.sharded_init(
        jax.random.key(0), make_mesh(1, 4, 2), shared={"trunk": trunk}, own_outcome={"trunk": trunk}, own_value=trained
    )
    jax.tree.map(np.testing.assert_array_equal, params["own_value"], trained)
    jax.tree.map(np.testing.assert_array_equal, params["shared"]["trunk"], trunk)
    assert params["shared"]["head"].shape == (CONFIG.width, 2) and not jnp.any(params["shared"]["head"])
    assert params["own_outcome"]["head"].shape == (CONFIG.width, 1)
