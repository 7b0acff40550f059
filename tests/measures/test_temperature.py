"""The temperature that was used is found again, and no other has a better likelihood."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepjax.measures.temperature import fit_temperature, negative_log_likelihood, tempered


@pytest.mark.parametrize("used", [0.5, 1.0, 3.0])
def test_the_temperature_of_honest_labels_is_found(used):
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(20_000, 3)) * 2
    honest = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    labels = (honest.cumsum(-1) > generator.random((len(honest), 1))).argmax(-1)
    stated = tempered(honest, 1 / used)
    found = fit_temperature(stated, np.eye(3)[labels])
    assert found == pytest.approx(used, rel=0.05)
    assert np.allclose(tempered(stated, used), honest)


@given(st.integers(0, 1000), st.integers(1, 20))
@settings(max_examples=30, deadline=None)
def test_no_other_temperature_is_likelier(seed, count):
    generator = np.random.default_rng(seed)
    p = generator.dirichlet([1, 1, 1], count)
    truth = generator.dirichlet([0.5, 0.5, 0.5], count)
    best = negative_log_likelihood(tempered(p, fit_temperature(p, truth)), truth)
    for other in np.geomspace(0.05, 20, 50):
        assert best <= negative_log_likelihood(tempered(p, other), truth) + 1e-6


def test_an_impossible_class_stays_impossible():
    assert tempered(np.array([[0.3, 0.0, 0.7]]), 20.0)[0, 1] < 1e-12


def test_nothing_to_fit_on():
    assert fit_temperature(np.zeros((0, 3)), np.zeros((0, 3))) == 1.0
