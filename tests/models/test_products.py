"""Products with weights whose contracted dimensions are last, as decoding on a CPU has them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stepjax.models.block import FEW_ROWS, _matmul


@pytest.mark.parametrize("rows", range(1, FEW_ROWS + 2))
def test_few_rows_are_multiplied_as_many_are(rows):
    x, w = (jax.random.normal(jax.random.key(n), shape) for n, shape in enumerate(((rows, 1, 32), (24, 32))))
    found = _matmul(x, w, transposed=True)
    np.testing.assert_allclose(found, np.asarray(x, np.float64) @ np.asarray(w, np.float64).T, rtol=1e-5, atol=1e-5)
    assert found.shape == (rows, 1, 24)
    low = _matmul(x.astype(jnp.bfloat16), w.astype(jnp.bfloat16), transposed=True)
    assert low.dtype == jnp.bfloat16 and np.abs(np.asarray(low, np.float32) - found).max() < 0.3
