"""What an environment wrote takes no part in rewards, credit, loss or gradient."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from learners.ppo_case import HOST, MESHES, OPTIMIZERS, OPTIONS, P, T, mesh, scored
from models.tiny import policy, policy_params, scorer, scorer_params

from stepjax.learners.optimizers import abstract_state, init_state
from stepjax.learners.ppo import credit_program
from stepjax.learners.update import update_program
from stepjax.parallel import batch_sharding, fetch, put, replicated
from stepjax.programs import abstract
from stepjax.runs.setup import device_scalar
from stepjax.steps import Steps
from stepjax.trajectory import Trajectory

ON = mesh(MESHES[0])
ROWS, HERE = batch_sharding(ON), replicated(ON)


@functools.cache
def rows_with_env_tokens() -> Trajectory:
    """The usual responses, of which an environment wrote columns P + 1 and P + 2, and P + 5."""
    rows = scored()
    written = np.isin(np.arange(T), [P + 1, P + 2, P + 5]) & np.asarray(rows.response)
    steps = Steps(index=rows.steps.index, end=rows.steps.end).only(~written & np.asarray(rows.response))
    return dataclasses.replace(rows, env_tokens=written, steps=fetch(steps))


@functools.cache
def programs():
    credit = credit_program(OPTIONS, ON, abstract(put(rows_with_env_tokens(), ROWS)))
    return credit, update_program(OPTIONS, policy(), scorer(), OPTIMIZERS, ON, credit.outputs()[0])


def trained(rows: Trajectory):
    """Credited rows, and the parameters after an update on them."""
    credit, update = programs()
    credited, _ = credit(*put((rows, HOST), ROWS))
    state = {}
    for role, definition, params in (("policy", policy(), policy_params()), ("critic", scorer(), scorer_params())):
        like = abstract_state(definition, OPTIMIZERS[role], ON)
        state[role] = init_state(jax.tree.map(np.array, params), OPTIMIZERS[role], like, ON)
    key = jax.device_put(jax.random.key(5), HERE)
    state, figures = update(state, credited, key, device_scalar(0, ON))
    return fetch(credited), fetch(state), fetch(figures)


def assert_same(ours, theirs):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_array_equal(a, b)


def test_nothing_is_credited_to_env_tokens():
    credited, _, _ = trained(rows_with_env_tokens())
    away = ~np.asarray(credited.mask)
    assert (np.asarray(credited.env_tokens) & away).sum() > 10
    for name in ("rewards", "advantages", "returns"):
        assert not getattr(credited, name)[np.broadcast_to(away[:, None], credited.rewards.shape)].any(), name
    assert not credited.policy_weight[away].any() and credited.policy_weight[~away].any()


@pytest.mark.parametrize("column", ["old_logprobs", "ref_logprobs", "values", "prm", "logprobs"])
def test_what_stands_at_env_tokens_changes_neither_credit_nor_update(column):
    rows = rows_with_env_tokens()
    written = np.asarray(rows.env_tokens)
    old = np.asarray(getattr(rows, column))
    changed = dataclasses.replace(
        rows, **{column: np.where(_like(written, old, column), old + 7.0, old).astype(np.float32)}
    )
    assert (np.asarray(getattr(changed, column)) != old).any()
    plain, other = trained(rows), trained(changed)
    np.testing.assert_array_equal(plain[0].policy_weight, other[0].policy_weight)
    assert_same(plain[1], other[1])
    own = np.asarray(rows.mask)
    moved = dataclasses.replace(rows, **{column: np.where(_like(own, old, column), old + 0.5, old).astype(np.float32)})
    if column not in ("logprobs", "prm"):
        assert any(
            (a != b).any() for a, b in zip(jax.tree.leaves(plain[1]), jax.tree.leaves(trained(moved)[1]), strict=True)
        )


def _like(mask: np.ndarray, array: np.ndarray, column: str) -> np.ndarray:
    return np.expand_dims(mask, {"values": 1, "prm": -1}[column]) if array.ndim > 2 else mask
