"""Environments that write into a response: the rollout asks the host in the middle of a jitted loop.

A row asks where the token just sampled ends in the last byte of the environment's call, `=` say; whether the text
really ends in a call is for the environment to say. Its reply is queued and written token by token in place of what
would have been sampled, while the other rows go on. Nothing is compiled anew and no row waits.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Int

from stepjax.errors import UserError
from stepjax.parallel import RULES
from stepjax.tasks.base import Environment


class HostTool:
    """An environment, in tokens: which tokens may end a call, and the host's side of the question.

    Args:
      token_bytes: the bytes of every token of the vocabulary.
      tokenizer: Hugging Face tokenizer that writes the replies.
      reply_tokens: F, the most tokens of a reply; a longer one is not given at all.
    """

    def __init__(self, environment: Environment, tokenizer: Any, token_bytes: Sequence[bytes], reply_tokens: int):
        last = environment.call.encode()[-1:]
        self.environment = environment
        self.tokenizer = tokenizer
        self.token_bytes = token_bytes
        self.reply_tokens = reply_tokens
        self.asks = np.array([content.endswith(last) for content in token_bytes])
        if not last or not self.asks.any():
            raise UserError(
                f"environment {type(environment).__name__}: no token of the tokenizer ends in {environment.call!r}, "
                "so that it could never be called"
            )

    def may_ask(self, token: Int[Array, " B"]) -> Bool[Array, " B"]:
        """Whether a token may end a call; an id outside of the tokenizer (a padded embedding row) may not."""
        known = (token >= 0) & (token < len(self.asks))
        return known & jnp.asarray(self.asks)[jnp.where(known, token, 0)]

    def answer(
        self, responses: Int[np.ndarray, "B N"], lengths: Int[np.ndarray, " B"], asked: Bool[np.ndarray, " B"]
    ) -> tuple[Int[np.ndarray, "B F"], Int[np.ndarray, " B"]]:
        """Replies, on the host, to the rows that asked, padded with 0, and their lengths (0: no reply)."""
        responses, lengths, asked = np.asarray(responses), np.asarray(lengths), np.asarray(asked)
        replies = np.zeros((len(responses), self.reply_tokens), np.int32)
        counts = np.zeros(len(responses), np.int32)
        for row in np.flatnonzero(asked):
            ids = responses[row, : lengths[row]].tolist()
            text = b"".join(self.token_bytes[i] for i in ids if i < len(self.token_bytes)).decode(errors="replace")
            if text.endswith(self.environment.call) and (reply := self.environment.reply(text)):
                tokens = self.tokenizer.encode(reply, add_special_tokens=False)
                if len(tokens) <= self.reply_tokens:
                    replies[row, : len(tokens)] = tokens
                    counts[row] = len(tokens)
        return replies, counts

    def ask(
        self, mesh: Mesh | None, responses: Int[Array, "B N"], lengths: Int[Array, " B"], asked: Bool[Array, " B"]
    ) -> tuple[Int[Array, "B F"], Int[Array, " B"]]:
        """`answer` from within a jitted program; no question is put where no row asks.

        Every device asks its own host about its own rows: nothing crosses the mesh but "does any row ask?".
        """

        def question(responses: Array, lengths: Array, asked: Array) -> Any:
            shapes = (
                jax.ShapeDtypeStruct((len(lengths), self.reply_tokens), jnp.int32),
                jax.ShapeDtypeStruct(lengths.shape, jnp.int32),
            )
            return jax.pure_callback(self.answer, shapes, responses, lengths, asked)

        if mesh is not None:
            rows = PartitionSpec(RULES["batch"])
            question = jax.shard_map(question, mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False)

        def nothing(responses: Array, lengths: Array, asked: Array) -> Any:
            return jnp.zeros((len(lengths), self.reply_tokens), jnp.int32), jnp.zeros_like(lengths)

        return jax.lax.cond(jnp.any(asked), question, nothing, responses, lengths, asked)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Replies:
    """What environments still have to write into the rows that decode, and what these have so far.

    Attributes:
      waiting: int32[S, F], the tokens of each reply that are not written yet, the next one first.
      left: int32[S], how many they are.
      tokens: int32[S, W], each response so far.
    """

    waiting: jax.Array
    left: jax.Array
    tokens: jax.Array

    @classmethod
    def none(cls, rows: int, new_tokens: int, reply_tokens: int) -> "Replies":
        zeros = functools.partial(jnp.zeros, dtype=jnp.int32)
        return cls(zeros((rows, reply_tokens)), zeros(rows), zeros((rows, new_tokens)))

    def after(
        self,
        tool: HostTool,
        mesh: Mesh | None,
        token: Int[Array, " S"],
        time: Int[Array, " S"],
        may_ask: Bool[Array, " S"],
        ended: Bool[Array, " S"],
    ) -> "Replies":
        """Once `token`, the response's token number `time`, is written; rows that `ended` make room for new ones."""
        here = jnp.arange(self.tokens.shape[1]) == time[:, None]
        tokens = jnp.where(here, token[:, None], self.tokens)
        asked = may_ask & tool.may_ask(token)
        replies, counts = tool.ask(mesh, tokens, time + 1, asked)
        waiting = jnp.where(asked[:, None], replies, jnp.roll(self.waiting, -1, axis=1))
        left = jnp.where(asked, counts, jnp.maximum(self.left - 1, 0))
        return Replies(waiting, jnp.where(ended, 0, left), tokens)
