"""Signals: rewards and their tokens. Each turns a scored trajectory into one reward per token.

A new signal is a function and a row of `SIGNALS`, and a word in the help of `StreamOptions.signal`.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from stepjax.config import StreamOptions
from stepjax.credit.divergence import kl_estimate
from stepjax.rewards.hosted import FunctionReward, pattern_reward
from stepjax.rewards.implicit import check_implicit, implicit_rewards
from stepjax.rewards.later import JudgeReward, MonteCarloReward
from stepjax.rewards.length import check_band, length_rewards
from stepjax.rewards.places import (
    EVERY_TOKEN,
    RATED_RESPONSE,
    RATED_STEPS,
    RATED_TURNS,
    RESPONSE,
    STEPS,
    last_token,
    rated_ends,
    rated_response,
    rated_turns,
)
from stepjax.rewards.signal import CORRECT, RATING, HostSignals, Signal
from stepjax.trajectory import Trajectory


def prm(rows: Trajectory, host: HostSignals, options: StreamOptions) -> Float[Array, "B T"]:
    """Expected reward of each step under the learned model, at the step's last token.

    Its classes are bad, neutral and good, or bad and good; a single output is the reward itself.
    """
    return jnp.where(rated_ends(rows), _class_reward(rows, options), 0.0)


def orm(rows: Trajectory, host: HostSignals, options: StreamOptions) -> Float[Array, "B T"]:
    """The learned reward of only the last step, an outcome reward model; a truncated response has no outcome yet."""
    return jnp.where(rated_response(rows), _class_reward(rows, options), 0.0)


def _class_reward(rows: Trajectory, options: StreamOptions) -> Float[Array, "B T"]:
    assert rows.prm is not None
    class_values = {1: [1.0], 2: [options.bad, options.good], 3: [options.bad, options.neutral, options.good]}
    return rows.prm @ jnp.array(class_values[rows.prm.shape[-1]], jnp.float32)


def verifier(rows: Trajectory, host: HostSignals, options: StreamOptions) -> Float[Array, "B T"]:
    """Reward of each step by the task's exact rating, at the step's last token."""
    rating = host[RATING]
    reward = jnp.where(rating > 0, options.good, jnp.where(rating < 0, options.bad, options.neutral))
    return jnp.where(rated_ends(rows), reward, 0.0)


def outcome(rows: Trajectory, host: HostSignals, options: StreamOptions) -> Float[Array, "B T"]:
    """Reward of the graded answer at the response's last token; a truncated response has no outcome yet."""
    reward = jnp.where(host[CORRECT], options.good, options.bad)[:, None]
    return jnp.where(rated_response(rows), reward, 0.0)


def finish(rows: Trajectory, host: HostSignals, options: StreamOptions) -> Float[Array, "B T"]:
    """Reward of a response that ended by itself (good) or was truncated (bad), at its last token.

    Best without a critic: a truncated response would be bootstrapped in addition to its reward here.
    """
    reward = jnp.where(rows.finished, options.good, options.bad)[:, None]
    return jnp.where(last_token(rows), reward, 0.0)


def kl(rows: Trajectory, host: HostSignals, options: StreamOptions) -> Float[Array, "B T"]:
    """Minus an estimate of the divergence from the reference on every token; k1: log π_ref − log π."""
    assert rows.old_logprobs is not None and rows.ref_logprobs is not None
    return -kl_estimate(rows.old_logprobs, rows.ref_logprobs, options.kl_kind, mask=rows.mask)


def length(rows: Trajectory, host: HostSignals, options: StreamOptions) -> Float[Array, "B T"]:
    """Minus the cost of the tokens by which a step (or the response) leaves its band, at its last token."""
    return length_rewards(rows, per=options.per, least=options.least, most=options.most, token_cost=options.token_cost)


def limit(rows: Trajectory, host: HostSignals, options: StreamOptions) -> Float[Array, "B T"]:
    """Reward of keeping the number of steps that the prompt allows, at the response's last token."""
    kept = host["limit_kept"]
    reward = jnp.where(kept > 0, options.good, jnp.where(kept < 0, options.bad, 0.0))[:, None]
    return jnp.where(last_token(rows), reward, 0.0)


def implicit(rows: Trajectory, host: HostSignals, options: StreamOptions) -> Float[Array, "B T"]:
    """β · (log φ − log π_ref) of each token [PRIME 2502.01456], or the sum over a step or the response at its end."""
    return implicit_rewards(rows, per=options.per)


def environment(rows: Trajectory, host: HostSignals, options: StreamOptions) -> Float[Array, "B T"]:
    """The environment's reward of each turn that it answered, at the policy's last token of the turn."""
    assert rows.turns is not None
    return jnp.where(rated_turns(rows), rows.turns.rewards, 0.0)


def text_reward(rows: Trajectory, host: HostSignals, options: StreamOptions) -> Float[Array, "B T"]:
    """The host's rewards, but for a step that was cut off and for the outcome of a truncated response."""
    return jnp.where(rated_ends(rows), host["text_reward"], 0.0)


SIGNALS: dict[str, Signal] = {
    "prm": Signal(prm, RATED_STEPS, learned=True),
    "orm": Signal(orm, RATED_RESPONSE, learned=True),
    "verifier": Signal(verifier, RATED_STEPS, host=(RATING,)),
    "outcome": Signal(outcome, RATED_RESPONSE, host=(CORRECT,)),
    "finish": Signal(finish, RESPONSE),
    "kl": Signal(kl, EVERY_TOKEN, options=("kl_kind", "kl_target"), penalty=True),
    "length": Signal(length, STEPS, RESPONSE, options=("per", "least", "most", "token_cost"), check=check_band),
    "limit": Signal(limit, RESPONSE, shapeable=False, host=("limit_kept",)),
    "format": Signal(
        text_reward,
        RATED_STEPS,
        RATED_RESPONSE,
        options=("per", "pattern", "timeout"),
        needs={"pattern": "a regular expression that each text must match"},
        text_reward=pattern_reward,
    ),
    "mc": Signal(text_reward, RATED_STEPS, text_reward=MonteCarloReward),
    "implicit": Signal(implicit, STEPS, RESPONSE, EVERY_TOKEN, options=("per",), check=check_implicit, implicit=True),
    "environment": Signal(environment, RATED_TURNS, environment=True),
    "judge": Signal(text_reward, RATED_STEPS, text_reward=JudgeReward),
    "function": Signal(
        text_reward,
        RATED_STEPS,
        options=("function", "timeout"),
        needs={"function": "package.module:function"},
        text_reward=FunctionReward,
    ),
}
