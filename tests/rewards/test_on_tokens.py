"""Scores of steps and responses on their last tokens."""

import jax.numpy as jnp
import numpy as np
from learners.test_own_loops import MASK, ROWS
from models.tiny import scorer, scorer_params

from stepjax.rewards import on_response_end, on_step_ends, score
from stepjax.steps import Steps

INDEX = jnp.array([[-1, 0, 0, 1, 1, 2], [-1, -1, 0, 2, -1, -1]])
END = jnp.array([[False, False, True, False, True, True], [False, False, True, True, False, False]])


def test_a_score_lies_on_the_last_token_of_its_step():
    scores = jnp.array([[1.0, -1.0, 0.5], [2.0, 9.0, 3.0]])
    found = on_step_ends(scores, Steps(INDEX, END))
    assert found.tolist() == [[0, 0, 1.0, 0, -1.0, 0.5], [0, 0, 2.0, 3.0, 0, 0]], "step 1 of the second has no token"
    assert on_step_ends(scores[:, :2], Steps(INDEX, END)).tolist() == [[0, 0, 1.0, 0, -1.0, 0], [0, 0, 2.0, 0, 0, 0]]


def test_a_response_is_paid_on_its_last_token():
    mask = jnp.array([[False, True, True, False], [False, False, False, False], [True, False, True, True]])
    found = on_response_end(jnp.array([1.0, 5.0, -2.0]), mask)
    assert found.tolist() == [[0, 0, 1.0, 0], [0, 0, 0, 0], [0, 0, 0, -2.0]]


def test_a_reward_model_scores_steps_at_their_ends():
    end = jnp.asarray(MASK & (np.arange(MASK.shape[1]) % 2 == 0))
    found = np.asarray(score(scorer(), scorer_params(), ROWS, Steps(jnp.zeros_like(ROWS.tokens), end)))
    logits = np.asarray(scorer().bind(scorer_params())(ROWS.tokens, ROWS.positions, ROWS.segments), np.float64)
    wanted = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(found[np.asarray(end)], wanted[np.asarray(end)], atol=1e-5)
    assert not found[~np.asarray(end)].any() and found.shape == (*MASK.shape, 3)
