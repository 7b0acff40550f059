"""The adaptive coefficient by its formula, and that it reaches its target on a toy that answers to it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepjax.learners.kl_control import adapted_coefficient


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.floats(1e-4, 10), st.floats(0, 5), st.floats(1e-3, 1), st.floats(0, 1))
def test_it_is_what_its_formula_says(coefficient, divergence, target, gain):
    error = min(max((divergence - target) / target, -0.2), 0.2)
    found = adapted_coefficient(np.float32(coefficient), np.float32(divergence), target=target, gain=gain)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, coefficient * (1 + gain * error), rtol=1e-4)


@pytest.mark.parametrize("start", [0.001, 1.0])
def test_it_finds_the_coefficient_that_holds_the_target(start):
    coefficient = np.float32(start)
    for _ in range(1000):
        divergence = 0.01 / coefficient  # a policy that goes the further, the less it costs
        coefficient = adapted_coefficient(coefficient, divergence, target=0.05, gain=0.1)
    np.testing.assert_allclose(divergence, 0.05, rtol=1e-3)
