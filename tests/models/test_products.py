"""Products with weights whose contracted dimensions are last, as decoding on a CPU has them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stepjax.models.block import FEW_ROWS, _matmul
from stepjax.parallel import batch_sharding, make_mesh, put, replicated


@pytest.mark.parametrize("rows", range(1, FEW_ROWS + 2))
def test_few_rows_are_multiplied_as_many_are(rows):
    x, w = (jax.random.normal(jax.random.key(n), shape) for n, shape in enumerate(((rows, 1, 32), (24, 32))))
    found = _matmul(x, w, transposed=True)
    np.testing.assert_allclose(found, np.asarray(x, np.float64) @ np.asarray(w, np.float64).T, rtol=1e-5, atol=1e-5)
    assert found.shape == (rows, 1, 24)
    low = _matmul(x.astype(jnp.bfloat16), w.astype(jnp.bfloat16), transposed=True)
    assert low.dtype == jnp.bfloat16 and np.abs(np.asarray(low, np.float32) - found).max() < 0.3


def test_nothing_crosses_the_devices_that_rows_are_divided_among():
    mesh = make_mesh(2, 1, 1, devices=jax.devices()[:2])
    x = put(np.ones((2, 1, 32), np.float32), batch_sharding(mesh))
    w = put(np.ones((24, 32), np.float32), replicated(mesh))
    with jax.set_mesh(mesh):
        text = jax.jit(lambda x, w: _matmul(x, w, transposed=True)).lower(x, w).compile().as_text()
    assert "dot" in text and not any(name in text for name in ("all-to-all", "all-reduce", "permute", "all-gather"))
