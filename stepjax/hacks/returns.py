"""Returns of fixed responses under lists of reward streams, and how much an edit changes them.

A stream's *weight* of a token is its reward to go within its horizon: Σ over the token's own and later steps of the
step's reward, discounted by the horizon's factor at each boundary between (the stream's γ, λ = 1, no critic, no
whitening); a list's is the weighted sum. Two figures are computed from it, for every list alike:

  return  the mean weight over the response's tokens, their factor in the policy gradient. With
          the horizon "step" it is the mean reward of the steps (by tokens), with "response" the mean reward to go.
  push    the weight of the first token in which the edited response differs, minus that of the original token:
          the same state, so a critic's baseline cancels, and the gradient moves the policy towards the edit exactly
          where it is above 0. It does not cover the tokens after it.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from stepjax.config import StreamOptions
from stepjax.credit import segment_gae
from stepjax.credit.estimators import ESTIMATORS
from stepjax.credit.horizon import boundary_discount
from stepjax.errors import UserError
from stepjax.learners.ppo import make_streams
from stepjax.rewards.by_token import by_token
from stepjax.rewards.reward_streams import stream_rewards
from stepjax.runs.host_signals import HostRewards
from stepjax.runs.responses import Response, exact_ratings
from stepjax.steps import Steps, StepSplitter
from stepjax.trajectory import Trajectory

LEAST = 0.01
"""An edit raises a return when the 95% interval of the mean change lies above this: a hundredth of a good step."""


def response_rows(
    responses: Sequence[Response], splitter: StepSplitter, probabilities: Sequence[np.ndarray] | None
) -> Trajectory:
    """Responses as a scored trajectory, with the log-probabilities of policy and reference equal (0).

    Args:
      responses: B of them.
      splitter: finds their steps.
      probabilities: of each response, P(bad), P(neutral), P(good) of every step that has a token, float[steps, 3];
        None where there is no process reward model.
    """
    width = max(len(r.prompt) for r in responses)
    shape = (len(responses), width + max(len(r.tokens) for r in responses))
    tokens, index, end = np.zeros(shape, np.int32), np.full(shape, -1, np.int32), np.zeros(shape, bool)
    prm = np.zeros((*shape, 3), np.float32)
    for i, response in enumerate(responses):
        tokens[i, width - len(response.prompt) : width] = response.prompt
        here = slice(width, width + len(response.tokens))
        tokens[i, here] = response.tokens
        index[i, here], end[i, here] = splitter.split_host(response.tokens)
        if probabilities is not None:
            prm[i, end[i]] = probabilities[i]
    zeros = jnp.zeros(shape, jnp.float32)
    return Trajectory(
        tokens=jnp.asarray(tokens),
        prompt_length=jnp.asarray([len(r.prompt) for r in responses], jnp.int32),
        response_length=jnp.asarray([len(r.tokens) for r in responses], jnp.int32),
        finished=jnp.asarray([r.finished for r in responses]),
        logprobs=zeros,
        prompt_width=width,
        steps=Steps(jnp.asarray(index), jnp.asarray(end)),
        old_logprobs=zeros,
        ref_logprobs=zeros,
        prm=None if probabilities is None else jnp.asarray(prm),
    )


def rated_exactly(rows: Trajectory, responses: Sequence[Response]) -> Trajectory:
    """The same rows with the task's exact ratings, as probabilities 0 and 1, in place of the process reward model's."""
    assert rows.steps is not None
    end = np.asarray(rows.steps.end)
    ratings = by_token(exact_ratings(responses), np.asarray(rows.steps.index), end)
    sure = np.eye(3, dtype=np.float32)[(np.sign(ratings) + 1).astype(int)] * end[..., None]
    return dataclasses.replace(rows, prm=jnp.asarray(sure))


def token_weights(rows: Trajectory, responses: Sequence[Response], streams: Mapping[str, StreamOptions]) -> np.ndarray:
    """The list's weight of each response token, float32[B, T], 0 elsewhere: Σ over streams of weight × reward-to-go."""
    assert rows.steps is not None
    host = HostRewards(streams)(responses, np.asarray(rows.steps.index), np.asarray(rows.steps.end))
    rewards = stream_rewards(rows, {name: jnp.asarray(x) for name, x in host.items()}, streams)
    total = np.zeros(rows.tokens.shape, np.float32)
    for i, stream in enumerate(make_streams(streams)):
        if not stream.sums_rewards:
            readable = [name for name, estimator in ESTIMATORS.items() if estimator.sums_rewards]
            raise UserError(
                f"config.ppo.streams.{stream.name}: the battery of hacks measures rewards-to-go, which estimator "
                f"{stream.estimator!r} with these options does not define for a single response; use "
                f"{' or '.join(readable)}, without unit, hold, sum, gate, pay, times, join and baselines of a group"
            )
        togo, _ = segment_gae(
            rewards[:, i],
            jnp.zeros_like(rewards[:, i]),
            rows.mask,
            rows.steps.end,
            gamma=stream.gamma,
            lam=1.0,
            boundary_discount=boundary_discount(stream.horizon),
        )
        total += stream.weight * np.asarray(togo)
    return total


def mean_weights(weights: np.ndarray, rows: Trajectory) -> np.ndarray:
    """The return of each response, float[B]."""
    return weights.sum(-1) / np.maximum(np.asarray(rows.mask).sum(-1), 1)


def pushes(weights: np.ndarray, rows: Trajectory, before: Sequence[int], after: Sequence[int]) -> np.ndarray:
    """The push towards each row of `after` from the same row of `before`, float[n]; both end with the same id."""
    tokens = np.asarray(rows.tokens)
    first = np.argmax(tokens[np.asarray(before)] != tokens[np.asarray(after)], axis=-1)
    return weights[np.asarray(after), first] - weights[np.asarray(before), first]


def mean_interval(values: np.ndarray) -> dict[str, float]:
    """Mean and its normal 95% interval over n solutions: `mean`, `low`, `high`."""
    mean = float(np.mean(values))
    spread = 1.96 * float(np.std(values, ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return {"mean": round(mean, 6), "low": round(mean - spread, 6), "high": round(mean + spread, 6)}


def change(before: np.ndarray, after: np.ndarray, pushed: np.ndarray) -> dict[str, Any]:
    """Effect of an edit on the returns of n solutions, float[n] each.

    Returns:
      mean, low, high: of the change of the return; rises: the share of solutions whose return rises at all;
      raised: whether `low` lies above LEAST; push: mean, low and high of the push, with `towards` as `raised`.
    """
    push = mean_interval(pushed)
    found = mean_interval(after - before)
    return {
        **found,
        "rises": float(np.mean(after - before > 1e-6)),
        "raised": found["low"] > LEAST,
        "push": {**push, "towards": push["low"] > LEAST},
    }
