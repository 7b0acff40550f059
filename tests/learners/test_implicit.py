"""The implicit reward model: its rewards, loss, gradient and updates against NumPy; the same on eight devices."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from learners.ppo_case import HOST, MESHES, RATE, WITHOUT_CRITIC, B, P, T, assert_close, distance, mesh, scored
from models.tiny import CONFIG, policy, policy_params

from stepjax.config import ImplicitOptions
from stepjax.learners.implicit import (
    LEAST_RETURN,
    implicit_objective,
    implicit_score_program,
    implicit_update_program,
    outcome_columns,
)
from stepjax.learners.losses import outcome_loss
from stepjax.learners.optimizers import abstract_state, init_state
from stepjax.learners.packing import PackedRows
from stepjax.models.trainable import Trainable
from stepjax.parallel import batch_sharding, fetch, put, replicated
from stepjax.programs import abstract

BETA = 0.5
IMPLICIT = ImplicitOptions(beta=BETA, epochs=2, minibatches=2)
PPO = dataclasses.replace(WITHOUT_CRITIC, implicit=IMPLICIT, samples=2)
RIGHT = HOST["correct"]


def rows():
    return dataclasses.replace(scored(), values=None, bootstrap=None, entropy=None, prm=None)


@functools.cache
def score_of(normalise: bool, shape=(1, 1, 1)):
    options = dataclasses.replace(PPO, implicit=dataclasses.replace(IMPLICIT, normalise=normalise))
    return implicit_score_program(options, policy(), mesh(shape), abstract(put(rows(), batch_sharding(mesh(shape)))))


def scores(normalise: bool, shape=(1, 1, 1)):
    params = jax.device_put(policy_params(), policy().shardings(mesh(shape)))
    return fetch(score_of(normalise, shape)(params, put(rows(), batch_sharding(mesh(shape)))))


@functools.cache
def logprobs() -> np.ndarray:
    """log φ of each token, by a pass over the rows as they are."""
    given, model = rows(), policy().bind(policy_params())
    every = jax.nn.log_softmax(
        model.logits(model.trunk(given.tokens, given.positions, given.segments)) / PPO.temperature
    )
    found = np.zeros((B, T), np.float64)
    for b, t in zip(*np.nonzero(given.mask), strict=True):
        found[b, t] = every[b, t - 1, given.tokens[b, t]]
    return found


def test_rewards_are_log_ratios_and_their_returns_at_most_one():
    given = rows()
    expected = np.where(given.mask, BETA * (logprobs() - given.ref_logprobs), 0.0)
    rewards, log_odds = scores(False)
    np.testing.assert_allclose(rewards, expected, atol=1e-5)
    np.testing.assert_allclose(log_odds, expected.sum(axis=1), atol=1e-5)
    largest = max(abs(expected[b, t:].sum()) for b in range(B) for t in range(T))
    normalised, same = scores(True)
    np.testing.assert_allclose(normalised, expected / (largest + LEAST_RETURN), atol=1e-5)
    np.testing.assert_array_equal(same, log_odds)


@pytest.mark.parametrize("shape", [pytest.param(MESHES[1], marks=pytest.mark.slow), *MESHES[2:]])
def test_on_eight_devices_rewards_and_updates_are_the_same(shape):
    assert_close(scores(True, shape), scores(True))
    assert_close(update(shape), update())


def by_numpy(log_ratios: list[np.ndarray], outcomes: np.ndarray) -> float:
    """The cross-entropy in the words of the paper."""
    p = [1.0 / (1.0 + np.exp(-BETA * x.sum())) for x in log_ratios]
    return -np.mean([np.log(q) if right else np.log(1.0 - q) for q, right in zip(p, outcomes, strict=True)])


def test_the_loss_and_its_gradient_are_those_of_differences():
    z, y = jnp.asarray([-30.0, -1.0, 0.0, 0.5, 30.0]), jnp.asarray([0.0, 1.0, 1.0, 0.0, 1.0])
    np.testing.assert_allclose(outcome_loss(z, y), [0, np.log1p(np.e), np.log(2), np.log1p(np.exp(0.5)), 0], atol=1e-6)
    gradient = jax.grad(lambda z: outcome_loss(z, y).sum())(z)
    np.testing.assert_allclose(gradient, jax.nn.sigmoid(z) - y, atol=1e-6)
    masked = outcome_loss(jnp.asarray([jnp.nan, 0.0]), jnp.asarray([1.0, 1.0]), mask=jnp.asarray([False, True]))
    np.testing.assert_allclose(masked, [0.0, np.log(2)], atol=1e-6)


@functools.cache
def objective():
    """Loss and gradient over four packed rows, two responses in each of the first ones."""
    return jax.jit(jax.value_and_grad(functools.partial(implicit_objective, PPO, policy()), has_aux=True))


def packed(chosen: np.ndarray) -> tuple[PackedRows, list[tuple[int, np.ndarray]]]:
    """Two responses a packed row, without their padding; and of each the tokens of its own."""
    given, width = rows(), 2 * T
    columns, count = outcome_columns(PPO, given, jnp.asarray(RIGHT), jnp.asarray(chosen))
    columns = fetch(columns)
    out = {name: np.zeros((B // 2, width), np.float32) for name in columns}
    fields = {name: np.zeros((B // 2, width), np.int32) for name in ("tokens", "positions", "segments", "targets")}
    mask, read = np.zeros((B // 2, width), bool), []
    for b in range(B):
        inside = np.flatnonzero(given.segments[b])
        start = 0 if b % 2 == 0 else int((fields["segments"][b // 2] > 0).sum())
        place = np.arange(start, start + len(inside))
        for name in ("tokens", "positions"):
            fields[name][b // 2, place] = np.asarray(getattr(given, name))[b, inside]
        fields["segments"][b // 2, place] = 1 + b % 2
        fields["targets"][b // 2, place[:-1]] = np.asarray(given.tokens)[b, inside[1:]]
        mask[b // 2, place[:-1]] = np.asarray(given.mask)[b, inside[1:]]
        for name in columns:
            out[name][b // 2, place[:-1]] = columns[name][b, inside[1:]]
        if b in chosen and given.finished[b]:
            read.append((b, np.flatnonzero(given.mask[b])))
    assert count == len(read)
    return PackedRows(**fields, mask=mask, columns=out), read


def test_the_objective_is_the_cross_entropy_of_the_responses_that_ended():
    batch, read = packed(np.array([0, 1, 2, 3, 5]))
    (loss, _), gradient = objective()(policy_params(), batch)
    given = rows()
    ratios = [logprobs()[b, t] - given.ref_logprobs[b, t] for b, t in read]
    assert [b for b, _ in read] == [1, 3, 5], "rows of an even number were cut off"
    np.testing.assert_allclose(loss, by_numpy(ratios, RIGHT[[b for b, _ in read]]), atol=1e-5)
    # Along a random direction, in float64 differences of float32 losses.
    rng, size = np.random.default_rng(3), 1e-2
    direction = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), policy_params())
    norm = float(optax.global_norm(direction))
    direction = jax.tree.map(lambda x: x / norm, direction)
    ends = [
        float(objective()(jax.tree.map(lambda p, d, s=s: p + s * size * d, policy_params(), direction), batch)[0][0])
        for s in (1, -1)
    ]
    slope = sum(
        float((g * d).sum()) for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True)
    )
    assert abs(slope) > 1e-3
    np.testing.assert_allclose((ends[0] - ends[1]) / (2 * size), slope, rtol=2e-2)


@functools.cache
def update_of(shape=(1, 1, 1), train_on="all"):
    options = dataclasses.replace(PPO, implicit=dataclasses.replace(IMPLICIT, train_on=train_on))
    like = abstract(put(rows(), batch_sharding(mesh(shape))))
    return implicit_update_program(options, policy(), optax.sgd(RATE), mesh(shape), like, Trainable(policy()))


def update(shape=(1, 1, 1), right=RIGHT, train_on="all"):
    """(parameters, metrics) after two passes over two minibatches."""
    on = mesh(shape)
    params = jax.device_put(policy_params(), policy().shardings(on))
    state = init_state(params, optax.sgd(RATE), abstract_state(policy(), optax.sgd(RATE), on), on)
    key, number = jax.device_put(jax.random.key(5), replicated(on)), put(np.int32(3), replicated(on))
    given = put((rows(), right), batch_sharding(on))
    new, metrics = update_of(shape, train_on)(state, *given, key, number)
    return fetch(new["params"]), fetch(metrics)


def test_updates_are_those_of_a_loop_over_minibatches():
    keys = jax.random.split(jax.random.fold_in(jax.random.key(5), 3), IMPLICIT.epochs)
    orders = [np.asarray(jax.random.permutation(key, B)) for key in keys]
    params, lines = policy_params(), []
    for order in orders:
        for chosen in order.reshape(IMPLICIT.minibatches, -1):
            batch, _ = packed(chosen)
            (loss, _), gradient = objective()(params, batch)
            lines.append((float(loss), float(optax.global_norm(gradient))))
            params = jax.tree.map(lambda p, g: p - RATE * g, params, gradient)
    found, metrics = update()
    assert distance(found, policy_params()) > 1e-4
    assert_close(found, fetch(params))
    loss, norm = np.mean(lines, axis=0)
    np.testing.assert_allclose([metrics["implicit/train_loss"], metrics["implicit/grad_norm"]], [loss, norm], rtol=1e-4)


def test_only_informative_problems_train_where_asked():
    # Rows 1, 3, 5, 7 ended by themselves, and 1 and 3 are right: only the pairs (0, 1) and (2, 3) are half solved.
    whole = jnp.arange(B)
    options = dataclasses.replace(PPO, implicit=dataclasses.replace(IMPLICIT, train_on="informative"))
    columns, count = outcome_columns(options, rows(), jnp.asarray(RIGHT), whole)
    assert count == 2 and np.flatnonzero(columns["outcome_weight"].any(axis=1)).tolist() == [1, 3]
    # Where there are none, nothing changes.
    found, metrics = update(right=np.zeros(B, bool), train_on="informative")
    assert distance(found, policy_params()) == 0.0 and metrics["implicit/train_loss"] == 0.0


def test_it_learns_which_token_makes_an_answer_right():
    """Fresh responses a round; right are those that hold an 11. Accuracy before it trains on them rises."""
    on, adam = mesh((1, 1, 1)), optax.adam(3e-3)
    reference = policy_params()
    options = dataclasses.replace(PPO, implicit=dataclasses.replace(IMPLICIT, beta=1.0, normalise=False))
    like = abstract(put(rows(), batch_sharding(on)))
    score = implicit_score_program(options, policy(), on, like)
    learn = implicit_update_program(options, policy(), adam, on, like, Trainable(policy()))
    state = init_state(reference, adam, abstract_state(policy(), adam, on), on)
    key = jax.device_put(jax.random.key(0), replicated(on))
    rng, told = np.random.default_rng(0), []
    for number in range(1, 61):
        tokens = rng.integers(12, CONFIG.vocab, (B, T)).astype(np.int32)
        right = np.arange(B) % 2 == 0
        tokens[right, P] = 11
        given = dataclasses.replace(
            rows(), tokens=tokens, finished=np.ones(B, bool), ref_logprobs=np.zeros((B, T), np.float32)
        )
        first, _ = score(reference, put(given, batch_sharding(on)))  # the reference's own: β is 1
        given = put(dataclasses.replace(given, ref_logprobs=fetch(first)), batch_sharding(on))
        told.append(np.mean((fetch(score(state["params"], given)[1]) > 0) == right))
        state, _ = learn(state, given, put(right, batch_sharding(on)), key, put(np.int32(number), replicated(on)))
    assert told[0] == 0.5, "φ is the reference: it tells nothing apart"
    assert np.mean(told[-10:]) >= 0.9, told
