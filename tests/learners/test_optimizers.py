"""Optimisers: the schedule at points worked out by hand, AdamW against NumPy, states sharded like their parameters."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models.tiny import policy, policy_params

from stepjax.config import OptimizerOptions
from stepjax.errors import UserError
from stepjax.learners.optimizers import abstract_state, apply_gradients, init_state, make_optimizer, schedule
from stepjax.parallel import make_mesh

OPTIONS = OptimizerOptions(lr=2.0, warmup=4, final=0.1)


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("constant", {4: 2.0, 8: 2.0, 11: 2.0, 100: 2.0}),
        ("linear", {4: 2.0, 6: 1.55, 8: 1.1, 12: 0.2, 100: 0.2}),
        ("cosine", {4: 2.0, 6: 0.2 + 0.9 * (1 + math.cos(math.pi / 4)), 8: 1.1, 12: 0.2, 100: 0.2}),
    ],
)
def test_schedules(kind, wanted):
    rate = schedule(dataclasses.replace(OPTIONS, schedule=kind), 12)
    for update, lr in ({0: 0.5, 1: 1.0, 2: 1.5, 3: 2.0} | wanted).items():
        np.testing.assert_allclose(rate(update), lr, rtol=1e-5, err_msg=f"update {update}")


def test_schedules_without_and_with_nothing_but_a_warmup():
    none = schedule(dataclasses.replace(OPTIONS, warmup=0, schedule="linear"), 10)
    np.testing.assert_allclose([none(0), none(5), none(10)], [2.0, 1.1, 0.2], rtol=1e-5)
    short = schedule(dataclasses.replace(OPTIONS, schedule="cosine"), 2)
    np.testing.assert_allclose([short(0), short(1)], [0.5, 1.0], rtol=1e-5)


def test_an_unknown_schedule_is_a_user_error():
    with pytest.raises(UserError, match=r"optimizer\.schedule: 'cosin' is not one of constant, linear, cosine"):
        make_optimizer(dataclasses.replace(OPTIONS, schedule="cosin"), 10)


def numpy_adamw(params, gradients, options, rates):
    """Params after each update, in float64."""
    m = v = {k: np.zeros_like(x) for k, x in params.items()}
    for t, (gradient, lr) in enumerate(zip(gradients, rates, strict=True), 1):
        norm = np.sqrt(sum((g**2).sum() for g in gradient.values()))
        g = {k: x * min(1.0, options.clip / norm) for k, x in gradient.items()}
        m = {k: options.b1 * m[k] + (1 - options.b1) * g[k] for k in g}
        v = {k: options.b2 * v[k] + (1 - options.b2) * g[k] ** 2 for k in g}
        step = {
            k: m[k] / (1 - options.b1**t) / (np.sqrt(v[k] / (1 - options.b2**t)) + options.eps)
            + options.weight_decay * params[k]
            for k in g
        }
        params = {k: params[k] - lr * step[k] for k in g}
        yield params, norm


def test_updates_are_adamw():
    options = OptimizerOptions(
        lr=0.1, warmup=2, schedule="linear", weight_decay=0.3, eps=1e-3, clip=1.5, b1=0.8, b2=0.9
    )
    rng = np.random.default_rng(0)
    params = {"a": rng.normal(size=3), "b": rng.normal(size=(2, 2))}
    scales = (0.1, 3.0, 0.5, 2.0)  # below and above the clip
    gradients = [{k: s * rng.normal(size=x.shape) for k, x in params.items()} for s in scales]
    optimizer = make_optimizer(options, 6)
    state = {"params": jax.tree.map(jnp.float32, params)}
    state["optimizer"] = optimizer.init(state["params"])
    update = jax.jit(lambda state, gradient: apply_gradients(state, gradient, optimizer))
    rates = (0.05, 0.1, 0.1, 0.0775)
    norms = []
    for (wanted, norm), gradient in zip(numpy_adamw(params, gradients, options, rates), gradients, strict=True):
        state, found = update(state, jax.tree.map(jnp.float32, gradient))
        np.testing.assert_allclose(found, norm, rtol=1e-5)
        norms.append(norm)
        for name in params:
            np.testing.assert_allclose(state["params"][name], wanted[name], rtol=2e-5, atol=1e-6)
    assert min(norms) < options.clip < max(norms)


def test_moments_are_float32_whatever_the_parameters_are():
    params = {"w": jnp.ones(4, jnp.bfloat16)}
    optimizer = make_optimizer(OptimizerOptions(lr=0.5, warmup=0, schedule="constant"), 10)
    state = {"params": params, "optimizer": optimizer.init(params)}
    state, _ = apply_gradients(state, {"w": jnp.full(4, 0.5, jnp.bfloat16)}, optimizer)
    assert state["params"]["w"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.asarray(state["params"]["w"], np.float32), 0.5)
    moments = [x for x in jax.tree.leaves(state["optimizer"]) if x.shape]
    assert len(moments) == 2 and {x.dtype for x in moments} == {jnp.dtype("float32")}


def test_a_state_is_what_was_announced_and_lies_where_its_parameters_lie():
    mesh = make_mesh(1, 4, 2)
    optimizer = make_optimizer(OptimizerOptions(), 10)
    like = abstract_state(policy(), optimizer, mesh)
    params = jax.device_put(policy_params(), policy().shardings(mesh))
    state = init_state(params, optimizer, like, mesh)
    assert jax.tree.structure(state) == jax.tree.structure(like)
    for (path, found), wanted in zip(jax.tree.leaves_with_path(state), jax.tree.leaves(like), strict=True):
        told = jax.tree_util.keystr(path)
        assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype), told
        assert found.sharding.is_equivalent_to(wanted.sharding, found.ndim), told
    where = {
        name: {s.data.shape for s in tree["trunk"]["layers"]["gate"].addressable_shards}
        for name, tree in (
            ("params", state["params"]),
            ("mu", state["optimizer"][1][0].mu),
            ("nu", state["optimizer"][1][0].nu),
        )
    }
    assert where == {name: {(2, 32 // 4, 48 // 2)} for name in ("params", "mu", "nu")}
    np.testing.assert_array_equal(state["params"]["unembedding"], policy_params()["unembedding"])
    jax.tree.map(lambda x: x.delete(), state)
    assert not any(x.is_deleted() for x in jax.tree.leaves(params)), "the state is a copy: an update may donate it"
