"""Losses of labels against a loop, the class that cannot be, and an optimiser that begins with the head."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from stepjax.learners.optimizers import head_first
from stepjax.learners.supervised import label_losses


@pytest.mark.parametrize("objective", ["class", "bce", "mse"])
def test_losses_by_a_loop(objective):
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(2, 5, 3)).astype(np.float32)
    targets = np.array([[-2, -1, 0, 2, 1], [-2, 2, 0, -1, -1]], np.int32)
    values = generator.random((2, 5)).astype(np.float32)
    batch = {"targets": jnp.asarray(targets), "values": jnp.asarray(values)}
    found = np.asarray(label_losses(jnp.asarray(logits), batch, objective))
    for b in range(2):
        for t in range(5):
            p = np.exp(logits[b, t]) / np.exp(logits[b, t]).sum()
            v = values[b, t]
            wanted = {
                "class": -np.log(p[targets[b, t]]),
                "bce": -v * np.log(p[2]) - (1 - v) * np.log(p[0] + p[1]),
                "mse": (p[2] - v) ** 2,
            }[objective]
            assert found[b, t] == pytest.approx(wanted if targets[b, t] >= 0 else 0.0, abs=1e-5)


def test_two_classes_are_a_logistic_regression():
    logits = jnp.array([[[0.3, -1e9, 1.1]]])
    batch = {"targets": jnp.array([[2]]), "values": jnp.array([[1.0]])}
    wanted = np.log1p(np.exp(0.3 - 1.1))
    for objective in ("class", "bce"):
        loss, gradient = jax.value_and_grad(lambda x, o=objective: label_losses(x, batch, o).sum())(logits)
        assert loss == pytest.approx(wanted, abs=1e-6)
        assert np.isfinite(gradient).all() and gradient[0, 0, 1] == 0


def test_the_head_is_trained_first():
    optimizer = head_first(optax.adamw(0.1, weight_decay=0.5), 2, "trunk")
    params = {"trunk": {"w": jnp.ones(3)}, "head": jnp.ones(2)}
    state = optimizer.init(params)
    for step in range(4):
        gradients = jax.tree.map(jnp.ones_like, params)
        updates, state = jax.jit(optimizer.update)(gradients, state, params)
        new = optax.apply_updates(params, updates)
        assert (new["head"] != params["head"]).all()
        assert (new["trunk"]["w"] != params["trunk"]["w"]).all() == (step >= 2)
        params = new
