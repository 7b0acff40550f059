"""A round's updates: what their equations say, minibatch by minibatch, and the same on eight devices."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from learners.ppo_case import (
    MESHES,
    OPTIMIZERS,
    OPTIONS,
    RATE,
    WITHOUT_CRITIC,
    B,
    assert_close,
    credit_of,
    distance,
    mesh,
)
from models.tiny import policy, policy_params, scorer, scorer_params

from stepjax.errors import UserError
from stepjax.learners.optimizers import abstract_state, init_state
from stepjax.learners.update import update_program
from stepjax.parallel import batch_sharding, fetch, put, replicated
from stepjax.trajectory import Trajectory


@functools.cache
def update_of(without_critic: bool, shape: tuple[int, int, int]):
    options, critic = (WITHOUT_CRITIC, None) if without_critic else (OPTIONS, scorer())
    abstract_rows = credit_of(without_critic, shape)[0]
    return update_program(options, policy(), critic, OPTIMIZERS, mesh(shape), abstract_rows)


def update(rows: Trajectory, shape=(1, 1, 1), without_critic=False, iteration=3, critic_params=None):
    """(parameters by role, metrics) after a round of two passes over two minibatches."""
    program, on = update_of(without_critic, shape), mesh(shape)
    given = {"policy": policy_params()}
    definitions = {"policy": policy(), "critic": scorer()}
    if not without_critic:
        given["critic"] = scorer_params() if critic_params is None else critic_params
    state = {}
    for role, params in given.items():
        placed = jax.device_put(params, definitions[role].shardings(on))
        like = abstract_state(definitions[role], OPTIMIZERS[role], on)
        state[role] = init_state(placed, OPTIMIZERS[role], like, on)
    whole = replicated(on)
    key = jax.device_put(jax.random.key(5), whole)
    new, metrics = program(state, put(rows, batch_sharding(on)), key, put(np.int32(iteration), whole))
    return fetch({role: new[role]["params"] for role in new}), fetch(metrics)


def policy_objective(params, rows: Trajectory):
    """What the policy minimises, token by token as in the papers."""
    o = OPTIONS
    model = policy().bind(params)
    logits = model.logits(model.trunk(rows.tokens, rows.positions, rows.segments)) / o.temperature
    every = jax.nn.log_softmax(logits)[:, :-1]
    logprobs = jnp.pad(jnp.take_along_axis(every, rows.tokens[:, 1:, None], -1)[..., 0], ((0, 0), (1, 0)))
    entropy = jnp.pad(-(jnp.exp(every) * every).sum(-1), ((0, 0), (1, 0)))
    ratio, w, mask = jnp.exp(logprobs - rows.old_logprobs), rows.policy_weight, rows.mask
    gain = jnp.minimum(ratio * w, jnp.clip(ratio, 1 - o.clip_low, 1 + o.clip_high) * w)
    gain = jnp.where(w < 0, jnp.maximum(gain, o.dual_clip * w), gain)
    to_reference, to_old = rows.ref_logprobs - logprobs, logprobs - rows.old_logprobs
    loss = -gain + o.kl * (jnp.exp(to_reference) - 1 - to_reference) - o.entropy * entropy
    low, high = ratio < 1 - o.clip_low, ratio > 1 + o.clip_high

    def mean(x):
        return jnp.where(mask, x, 0.0).sum() / mask.sum()

    return mean(loss), {
        "policy/loss": mean(-gain),
        "policy/clip_fraction": mean(jnp.where(w < 0, low | (ratio > o.dual_clip), (w > 0) & high)),
        "policy/ratio_max": jnp.where(mask, ratio, 0.0).max(),
        "kl/update": mean(jnp.exp(to_old) - 1 - to_old),
    }


def critic_objective(params, rows: Trajectory):
    after = scorer().bind(params)(rows.tokens, rows.positions, rows.segments)
    metrics = {}
    for i, name in enumerate(("process", "outcome")):  # the third stream has no critic
        values = jnp.pad(after[:, :-1, i], ((0, 0), (1, 0)))
        old, returns = rows.values[:, i], rows.returns[:, i]
        bounded = old + jnp.clip(values - old, -OPTIONS.value_clip, OPTIONS.value_clip)
        losses = 0.5 * jnp.maximum((values - returns) ** 2, (bounded - returns) ** 2)
        metrics[f"value_loss/{name}"] = jnp.where(rows.mask, losses, 0.0).sum() / rows.mask.sum()
    return sum(metrics.values()), metrics


@jax.jit
def descend(params, batch: Trajectory):
    """One step of gradient descent on the two objectives."""
    new, line = {}, {}
    for role, objective in (("policy", policy_objective), ("critic", critic_objective)):
        (_, found), gradient = jax.value_and_grad(objective, has_aux=True)(params[role], batch)
        new[role] = jax.tree.map(lambda p, g: p - RATE * g, params[role], gradient)
        line |= {**found, f"grad_norm/{role}": optax.global_norm(gradient)}
    return new, line


@jax.jit
def orders(iteration):
    """The random order of each pass."""
    keys = jax.random.split(jax.random.fold_in(jax.random.key(5), iteration), OPTIONS.epochs)
    return [jax.random.permutation(key, B) for key in keys]


def by_hand(rows: Trajectory, iteration: int = 3):
    """The same round as a loop over minibatches."""
    params = {"policy": policy_params(), "critic": scorer_params()}
    lines = []
    for order in fetch(orders(iteration)):
        for chosen in order.reshape(OPTIONS.minibatches, -1):
            params, line = descend(params, jax.tree.map(lambda x, chosen=chosen: x[chosen], rows))
            lines.append(fetch(line))
    figures = {k: [line[k] for line in lines] for k in lines[0]}
    return fetch(params), {k: np.max(v) if k.endswith("_max") else np.mean(v) for k, v in figures.items()}


def test_an_update_is_what_its_equations_say():
    rows = credit_of(False)[1]
    (params, metrics), (wanted, wanted_metrics) = update(rows), by_hand(rows)
    assert_close(params, wanted)
    assert_close(metrics, wanted_metrics)
    assert 0.05 < metrics["policy/clip_fraction"] < 0.95, "both sides of the clip are met"
    for role, before in (("policy", policy_params()), ("critic", scorer_params())):
        assert distance(params[role], before) > 1e-2, role


@pytest.mark.parametrize("shape", MESHES[1:])
def test_an_update_on_eight_devices_is_that_of_one(shape):
    rows = credit_of(False)[1]
    assert_close(update(rows, shape), update(rows))


def test_a_head_without_a_critic_is_not_trained():
    params, metrics = update(credit_of(False)[1])
    before, after = scorer_params()["head"], params["critic"]["head"]
    np.testing.assert_array_equal(after[:, 2], before[:, 2])
    assert (np.abs(after[:, :2] - before[:, :2]).max(0) > 1e-3).all()
    assert "value_loss/kl" not in metrics


def test_minibatches_are_drawn_anew_each_iteration_and_only_then():
    rows = credit_of(False)[1]
    first, again, other = (update(rows, iteration=i)[0] for i in (3, 3, 4))
    assert distance(first, again) == 0.0
    assert distance(first, other) > 1e-4


def test_prompts_and_padding_are_not_learned():
    """What a column holds outside of the responses, but for the tokens of prompts, reaches nothing."""
    rows = credit_of(False)[1]
    outside = ~np.asarray(rows.mask)
    padding = np.asarray(rows.segments) == 0
    junk = dataclasses.replace(
        rows,
        tokens=np.where(padding, 7, rows.tokens),
        policy_weight=np.where(outside, 1e3, rows.policy_weight),
        old_logprobs=np.where(outside, -50.0, rows.old_logprobs).astype(np.float32),
        returns=np.where(outside[:, None], np.nan, rows.returns),
    )
    assert_close(update(junk), update(rows), atol=1e-6)


def test_without_any_critic_the_policy_learns_as_with_one():
    """Values are 0; the policy's update knows the critic only by the weights that it is given."""
    _, rows, described = credit_of(True)
    assert not rows.values.any() and not rows.bootstrap.any()
    assert not [name for name in described if name.startswith("explained_variance")]
    params, metrics = update(rows, without_critic=True)
    assert params.keys() == {"policy"} and not [name for name in metrics if "value" in name or "critic" in name]
    beside = dataclasses.replace(credit_of(False)[1], policy_weight=rows.policy_weight)
    assert_close(params["policy"], update(beside)[0]["policy"], atol=1e-5)
    assert distance(params, {"policy": update(credit_of(False)[1])[0]["policy"]}) > 1e-3


def test_minibatches_must_divide_a_round():
    options = dataclasses.replace(OPTIONS, minibatches=3)
    with pytest.raises(UserError, match=r"config\.ppo\.minibatches: 3 does not divide the 8 responses"):
        update_program(options, policy(), None, OPTIMIZERS, mesh(MESHES[0]), credit_of(False)[0])
