"""Trajectory: the record that goes from rollout to learner; each program adds its columns."""

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from stepjax.kept import Kept
from stepjax.steps import Steps


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Turns:
    """What an environment that answers over turns says of responses.

    Attributes:
      rewards: float32[B, T], the reward of each turn that it answered, on the turn's last token of the policy's.
      rated: bool[B, T], True there.
      cause: int32[B], why each response ended: a number of `stepjax.tasks.turns.CAUSES`.
    """

    rewards: Float[Array, "B T"]
    rated: Bool[Array, "B T"]
    cause: Int[Array, " B"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Trajectory:
    """Prompts and sampled responses. Row first in every leaf; T = prompt width P + response width.

    A prompt ends in column P − 1 (padded on the left), its response starts in column P. With P = 4, a prompt of 3
    tokens and a response of 2, T = 8:

        column     0  1  2  3  4  5  6  7
        tokens     .  p  p  p  r  r  .  .
        segments   0  1  1  1  1  1  0  0
        mask       F  F  F  F  T  T  F  F
        positions  0  0  1  2  3  4  5  6

    Attributes:
      tokens: int32[B, T].
      prompt_length, response_length: int32[B], tokens.
      finished: bool[B], whether the response ended by itself; False: truncated.
      logprobs: float32[B, T], the sampler's log-probability of each response token.
      prompt_width: P, static.
      kept: what the sampler's filters kept when each response token was drawn; None: everything, or it is not recorded.
      env_tokens: bool[B, T], True on the response's tokens that an environment wrote; None: there are none.
      turns: rewards of an environment that answers over turns; None: there is none.
      steps: step index and step end of each of the policy's own tokens.
      old_logprobs, ref_logprobs: float32[B, T], the learner's, before the update, and the reference policy's; over the
        `kept` tokens where they are recorded.
      entropy: float32[B, T], of the policy's distribution (over the same tokens) at each response token.
      values: float32[B, N, T], one critic head per reward stream; `values[:, :, t]` is computed from token t − 1.
      bootstrap: float32[B, N], value after the last token of a truncated response, else 0.
      prm: float32[B, T, 3], P(bad), P(neutral), P(good) of the step that ends here, read at token t itself.
      implicit: float32[B, T], the implicit reward β · (log φ − log π_ref) of each of the policy's own tokens.
      rewards, advantages, returns: float32[B, N, T].
      policy_weight: float32[B, T], a token's policy weight: Σ over streams of weight × advantage.
      trained: bool[B, T], the response tokens that train the policy; None: all that it chose.
    """

    tokens: Int[Array, "B T"]
    prompt_length: Int[Array, " B"]
    response_length: Int[Array, " B"]
    finished: Bool[Array, " B"]
    logprobs: Float[Array, "B T"]
    prompt_width: int = dataclasses.field(metadata={"static": True})
    kept: Kept | None = None
    env_tokens: Bool[Array, "B T"] | None = None
    turns: Turns | None = None
    steps: Steps | None = None
    old_logprobs: Float[Array, "B T"] | None = None
    ref_logprobs: Float[Array, "B T"] | None = None
    entropy: Float[Array, "B T"] | None = None
    values: Float[Array, "B N T"] | None = None
    bootstrap: Float[Array, "B N"] | None = None
    prm: Float[Array, "B T C"] | None = None
    implicit: Float[Array, "B T"] | None = None
    rewards: Float[Array, "B N T"] | None = None
    advantages: Float[Array, "B N T"] | None = None
    returns: Float[Array, "B N T"] | None = None
    policy_weight: Float[Array, "B T"] | None = None
    trained: Bool[Array, "B T"] | None = None

    @property
    def columns(self) -> Int[Array, "1 T"]:
        """0 … T − 1."""
        return jnp.arange(self.tokens.shape[1], dtype=jnp.int32)[None]

    @property
    def response(self) -> Bool[Array, "B T"]:
        """True on the response's tokens (the end-of-text token among them), also those of an environment."""
        after_prompt = self.columns >= self.prompt_width
        return after_prompt & (self.columns < self.prompt_width + self.response_length[:, None])

    @property
    def mask(self) -> Bool[Array, "B T"]:
        """True on the response tokens that the policy chose: those that are credited and trained on."""
        return self.response if self.env_tokens is None else self.response & ~self.env_tokens

    @property
    def turn_end(self) -> Bool[Array, "B T"] | None:
        """True on the policy's last token of each turn, after which the environment wrote; None: there are no turns.

        The response's own end is not marked: nothing comes after it.
        """
        if self.env_tokens is None:
            return None
        written = self.response & self.env_tokens
        return self.mask & jnp.pad(written, ((0, 0), (0, 1)))[:, 1:]

    @property
    def positions(self) -> Int[Array, "B T"]:
        """Rotary position of each token, from 0 at the prompt's first token; 0 on the padding before it."""
        return jnp.maximum(self.columns - (self.prompt_width - self.prompt_length[:, None]), 0)

    @property
    def segments(self) -> Int[Array, "B T"]:
        """1 on prompt and response tokens, 0 on padding."""
        first = self.prompt_width - self.prompt_length[:, None]
        inside = (self.columns >= first) & (self.columns < self.prompt_width + self.response_length[:, None])
        return inside.astype(jnp.int32)

    @property
    def last(self) -> Int[Array, " B"]:
        """Column of the last response token (of the prompt's last token where the response is empty)."""
        return self.prompt_width + self.response_length - 1
