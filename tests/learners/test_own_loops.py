"""Loss and log-probabilities of whole trajectories, against formulas in NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models.tiny import CONFIG, policy, policy_params, scorer, scorer_params

from stepjax.learners import ppo_loss, token_logprobs, token_values
from stepjax.steps import Steps
from stepjax.trajectory import Trajectory

B, P, W = 3, 4, 6
RNG = np.random.default_rng(2)


def rows() -> Trajectory:
    lengths = np.array([6, 3, 1], np.int32)
    tokens = RNG.integers(4, CONFIG.vocab, (B, P + W)).astype(np.int32)
    found = Trajectory(
        tokens=jnp.asarray(tokens),
        prompt_length=jnp.array([4, 2, 3], jnp.int32),
        response_length=jnp.asarray(lengths),
        finished=jnp.array([False, True, True]),
        logprobs=jnp.zeros((B, P + W)),
        prompt_width=P,
    )
    return dataclasses.replace(found, tokens=jnp.where(found.segments > 0, found.tokens, 0))


ROWS = rows()
MASK = np.asarray(ROWS.mask)


@jax.jit
def full_logprobs(params, tokens, positions, segments):
    model = policy().bind(params)
    return jax.nn.log_softmax(model.logits(model.trunk(tokens, positions, segments)))


def test_logprobs_and_entropy_are_those_of_the_full_pass():
    logprobs, entropy = token_logprobs(policy(), policy_params(), ROWS)
    full = np.asarray(full_logprobs(policy_params(), ROWS.tokens, ROWS.positions, ROWS.segments))[:, :-1]
    wanted = np.take_along_axis(full, np.asarray(ROWS.tokens)[:, 1:, None], -1)[..., 0]
    np.testing.assert_allclose(np.asarray(logprobs)[:, 1:][MASK[:, 1:]], wanted[MASK[:, 1:]], atol=1e-5)
    spread = -(np.exp(full) * full).sum(-1)
    np.testing.assert_allclose(np.asarray(entropy)[:, 1:][MASK[:, 1:]], spread[MASK[:, 1:]], atol=1e-5)
    assert not np.asarray(logprobs)[~MASK].any()


@pytest.mark.parametrize("reduce", ["token", "step", "sequence"])
def test_the_loss_is_a_mean_of_clipped_losses(reduce):
    logprobs, entropy = map(np.asarray, token_logprobs(policy(), policy_params(), ROWS))
    old = logprobs + RNG.normal(size=MASK.shape).astype(np.float32) * 0.4
    reference = logprobs + RNG.normal(size=MASK.shape).astype(np.float32) * 0.2
    advantages = RNG.normal(size=MASK.shape).astype(np.float32)
    end = MASK & (RNG.random(MASK.shape) < 0.5)
    end |= MASK & (np.cumsum(MASK[:, ::-1], 1)[:, ::-1] == 1)
    index = np.where(MASK, np.cumsum(end, 1) - end, -1)
    steps = Steps(jnp.asarray(index, jnp.int32), jnp.asarray(end))
    loss, metrics = ppo_loss(
        policy(), policy_params(), dataclasses.replace(ROWS, steps=steps), jnp.asarray(advantages),
        old_logprobs=jnp.asarray(old), ref_logprobs=jnp.asarray(reference), kl=0.1, entropy=0.01, reduce=reduce,
    )  # fmt: skip
    ratio = np.exp(logprobs - old)
    clipped = np.maximum(-advantages * ratio, -advantages * np.clip(ratio, 0.8, 1.2))
    gap = reference - logprobs
    each = clipped + 0.1 * (np.exp(gap) - gap - 1) - 0.01 * entropy
    if reduce == "token":
        wanted = each[MASK].mean()
    elif reduce == "sequence":
        wanted = np.mean([each[b][MASK[b]].mean() for b in range(B)])
    else:
        wanted = np.mean([each[b][index[b] == k].mean() for b in range(B) for k in range(index[b].max() + 1)])
    np.testing.assert_allclose(loss, wanted, rtol=1e-4)
    np.testing.assert_allclose(metrics["ratio_max"], ratio[MASK].max(), rtol=1e-4)
    np.testing.assert_allclose(metrics["entropy"], entropy[MASK].mean(), rtol=1e-4)


def test_the_loss_of_steps_needs_steps():
    with pytest.raises(ValueError, match="has no steps"):
        ppo_loss(policy(), policy_params(), ROWS, jnp.zeros(MASK.shape), reduce="step")


def test_values_stand_before_their_token():
    values, bootstrap = token_values(scorer(), scorer_params(), ROWS)
    after = np.asarray(scorer().bind(scorer_params())(ROWS.tokens, ROWS.positions, ROWS.segments))
    assert values.shape == (B, 3, P + W) and bootstrap.shape == (B, 3)
    for b in range(B):
        for t in range(P, P + int(ROWS.response_length[b])):
            np.testing.assert_allclose(values[b, :, t], after[b, t - 1], atol=1e-5)
    np.testing.assert_allclose(bootstrap[0], after[0, P + 5], atol=1e-5)
    assert not np.asarray(bootstrap)[1:].any() and not np.asarray(values)[~MASK[:, None].repeat(3, 1)].any()
