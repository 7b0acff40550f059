"""The tokens that a sampler's filters kept when it drew a token: a learner's probabilities are over the same ones.

A filtered sampler draws from π renormalised over the tokens that it keeps. A learner that normalises over the whole
vocabulary finds another probability for the token even before its first update: its ratio is the kept tokens' share of
the probability, not 1. The share alone would mend the old log-probability only: a new policy's share of the same tokens
is another one. So the set is recorded ("keep sampling mask" [DeepSeek-V3.2 2512.02556, §3.1]), in the smallest of three
forms that hold it exactly.
"""

import dataclasses
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

DROPPED = -1e30
"""Logit of a token that was not kept: finite, so that its product with its probability 0 is 0."""

TIES = 8
"""Tokens as likely as the k-th that the record of a top-k filter has room for."""


class KeptForm(Protocol):
    """How the kept tokens are recorded; `words` numbers of `dtype` a token."""

    @property
    def words(self) -> int: ...

    @property
    def dtype(self) -> Any: ...

    def record(self, scores: Float[Array, "*B V"]) -> tuple[Array, Float[Array, "*B V"]]:
        """The record `[*B, words]` of the scores that are above −∞, and the scores with only the recorded ones."""
        ...

    def restrict(self, logits: Float[Array, "*B V"], record: Array, targets: Int[Array, "*B"]) -> Float[Array, "*B C"]:
        """The logits of the kept tokens, the drawn one among them, in any order; `DROPPED` elsewhere."""
        ...


@dataclasses.dataclass(frozen=True)
class KeptIds:
    """The ids of the kept tokens, the likeliest first, −1 behind them: 4 bytes × `words`, of top-k filters.

    Where more than `words` tokens are kept, because more than `TIES` others are as likely as the k-th, those with the
    highest ids are not drawn.
    """

    words: int
    dtype = jnp.int32

    def record(self, scores: Float[Array, "*B V"]) -> tuple[Array, Float[Array, "*B V"]]:
        best, ids = jax.lax.top_k(scores, self.words)  # of equals the one with the lowest id is first
        last, last_id = best[..., -1:], ids[..., -1:]
        inside = (scores > last) | ((scores == last) & (jnp.arange(scores.shape[-1]) <= last_id))
        return jnp.where(best > -jnp.inf, ids, -1), jnp.where(inside, scores, -jnp.inf)

    def restrict(self, logits: Float[Array, "*B V"], record: Array, targets: Int[Array, "*B"]) -> Float[Array, "*B C"]:
        del targets  # it is among the ids
        found = jnp.take_along_axis(logits, jnp.maximum(record, 0), axis=-1)
        return jnp.where(record >= 0, found, DROPPED)


@dataclasses.dataclass(frozen=True)
class KeptBits:
    """One bit for each token of the vocabulary: of filters that may keep any number of tokens."""

    vocab: int
    dtype = jnp.uint32

    @property
    def words(self) -> int:
        return -(-self.vocab // 32)

    def record(self, scores: Float[Array, "*B V"]) -> tuple[Array, Float[Array, "*B V"]]:
        kept = (scores > -jnp.inf).astype(jnp.uint32)
        kept = jnp.pad(kept, [(0, 0)] * (kept.ndim - 1) + [(0, self.words * 32 - self.vocab)])
        kept = kept.reshape(*scores.shape[:-1], self.words, 32)
        return jnp.sum(kept << jnp.arange(32, dtype=jnp.uint32), axis=-1, dtype=jnp.uint32), scores

    def restrict(self, logits: Float[Array, "*B V"], record: Array, targets: Int[Array, "*B"]) -> Float[Array, "*B C"]:
        ids = jnp.arange(self.vocab, dtype=jnp.int32)
        bits = (record[..., None] >> jnp.arange(32, dtype=jnp.uint32)) & 1
        kept = bits.reshape(*record.shape[:-1], self.words * 32)[..., : self.vocab] > 0
        # The drawn token is kept; saying so keeps padding finite, which has no record.
        return jnp.where(kept | (ids == targets[..., None]), logits, DROPPED)


@dataclasses.dataclass(frozen=True)
class KeptBesidesEnds:
    """Whether the `ends` of a response were left out and all else was kept: of a least length without other filters."""

    ends: tuple[int, ...]
    words = 1
    dtype = bool

    def record(self, scores: Float[Array, "*B V"]) -> tuple[Array, Float[Array, "*B V"]]:
        return scores[..., self.ends[0], None] == -jnp.inf, scores

    def restrict(self, logits: Float[Array, "*B V"], record: Array, targets: Int[Array, "*B"]) -> Float[Array, "*B C"]:
        ids = jnp.arange(logits.shape[-1], dtype=jnp.int32)
        left_out = record & jnp.isin(ids, jnp.asarray(self.ends)) & (ids != targets[..., None])
        return jnp.where(left_out, DROPPED, logits)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Kept:
    """The kept tokens at each token; `record`: `[*B, form.words]`."""

    record: Array
    form: KeptForm = dataclasses.field(metadata={"static": True})

    def restrict(self, logits: Float[Array, "*B V"], targets: Int[Array, "*B"]) -> Float[Array, "*B C"]:
        """The logits of the kept tokens, the drawn one (`targets`) among them, in any order; `DROPPED` elsewhere."""
        return self.form.restrict(logits, self.record, targets)
