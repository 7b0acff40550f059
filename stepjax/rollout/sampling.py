"""Sampling of the next token: a frozen strategy with filters, exact log-probabilities, one random key per row."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from stepjax.kept import TIES, KeptBesidesEnds, KeptBits, KeptForm, KeptIds
from stepjax.rollout.noise import gumbel


@dataclass(frozen=True)
class Sampler:
    """Sampling with temperature and filters; temperature 0 takes the likeliest token.

    A row's token depends only on its own key, never on the batch around it: the same problem and seed give the same
    response in any batch and on any mesh.

    The order is that of transformers' `generate`: ends that come too early are forbidden, logits are divided by the
    temperature, then come top-k, top-p and min-p, each on the tokens kept by the one before it, renormalised. (vLLM
    applies min-p before the other two: with top-p and min-p together it may keep fewer tokens.) Equally likely tokens
    are kept or dropped together, so that nothing depends on the order of the vocabulary: top-k keeps more than k where
    others are as likely as the k-th, top-p those as likely as the last one that it needs.

    Attributes:
      temperature: divides the logits.
      top_k: keeps the k likeliest tokens; 0: all.
      top_p: keeps the likeliest tokens until they have this probability together: a token stays where those that
        are likelier have less than it [Holtzman 2020]; 1: all.
      min_p: keeps the tokens at least this share as likely as the likeliest one [Nguyen 2024]; 0: all.
      min_tokens: ends are forbidden before the response has this many tokens besides.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    min_tokens: int = 0

    def __post_init__(self) -> None:
        if self.temperature < 0 or self.top_k < 0 or self.min_tokens < 0:
            raise ValueError(f"temperature, top_k and min_tokens are not negative: {self}")
        if not 0 < self.top_p <= 1 or not 0 <= self.min_p <= 1:
            raise ValueError(f"top_p lies in (0, 1], min_p in [0, 1]: {self}")

    def __call__(
        self,
        keys: PRNGKeyArray,
        logits: Float[Array, "B V"],
        *,
        time: Int[Array, " B"] | None = None,
        eos: Sequence[int] = (),
    ) -> tuple[Int[Array, " B"], Float[Array, " B"]]:
        """The sampled tokens and their log-probability under the distribution they were sampled from.

        Greedy tokens report the log-probability at temperature 1 (their own distribution has no spread).

        Args:
          time: tokens that each response has already; it and the `eos` ids that end one are needed by `min_tokens`.
        """
        return self.draw(keys, logits, time=time, eos=eos)[:2]

    def draw(
        self,
        keys: PRNGKeyArray,
        logits: Float[Array, "B V"],
        *,
        time: Int[Array, " B"] | None = None,
        eos: Sequence[int] = (),
        form: KeptForm | None = None,
        greedy: Bool[Array, " B"] | None = None,
    ) -> tuple[Int[Array, " B"], Float[Array, " B"], Array | None]:
        """The sampled tokens, their log-probability, and in a `form` the record of the tokens that were kept.

        `greedy`: the rows that take the likeliest token all the same, whose log-probability is as if they had drawn it.
        """
        scores = self.scores(logits, time=time, eos=eos)
        record = None
        if form is not None:
            record, scores = form.record(scores)
        if self.temperature == 0:
            tokens = _argmax(scores)
        else:
            noise = gumbel(keys, scores.shape[-1])
            if greedy is not None:
                noise = jnp.where(greedy[:, None], 0.0, noise)
            tokens = _argmax(scores + noise)  # jax.random.categorical
        return tokens, _logprobs(scores, tokens), record

    def kept_form(self, vocab: int, eos: Sequence[int] = ()) -> KeptForm | None:
        """The smallest record that holds the kept tokens of a vocabulary exactly; None: all tokens are kept."""
        if self.temperature == 0:
            return None
        top_k = 0 < self.top_k < vocab
        if top_k or self.top_p < 1 or self.min_p > 0:
            bits, ids = KeptBits(vocab), KeptIds(self.top_k + TIES)
            return ids if top_k and ids.words < bits.words else bits
        return KeptBesidesEnds(tuple(eos)) if self.min_tokens and len(eos) else None

    def scores(
        self, logits: Float[Array, "*B V"], *, time: Int[Array, "*B"] | None = None, eos: Sequence[int] = ()
    ) -> Float[Array, "*B V"]:
        """Logits of the sampling distribution: divided by the temperature, −∞ where a token is left out."""
        if self.min_tokens:
            if time is None or not len(eos):
                raise ValueError("min_tokens: the sampler needs the responses' lengths and the eos ids")
            ends = jnp.isin(jnp.arange(logits.shape[-1]), jnp.asarray(eos))
            logits = jnp.where((time < self.min_tokens)[..., None] & ends, -jnp.inf, logits)
        if self.temperature == 0:
            return logits
        scores = logits / self.temperature
        if self.top_k and self.top_k < scores.shape[-1]:
            scores = _cut(scores, jnp.ones_like(scores), float(self.top_k))
        if self.top_p < 1:
            scores = _cut(scores, jax.nn.softmax(scores, axis=-1), self.top_p)
        if self.min_p > 0:
            least = jnp.max(scores, axis=-1, keepdims=True) + jnp.log(self.min_p)
            scores = jnp.where(scores >= least, scores, -jnp.inf)
        return scores


def _argmax(x: Float[Array, "*B V"]) -> Int[Array, "*B"]:
    """`jnp.argmax` over the vocabulary, the first of equals, as two plain reductions.

    XLA's CPU backend reduces pairs of value and index one at a time, ten times slower than either alone.
    """
    below = x < jnp.max(x, axis=-1, keepdims=True)
    return jnp.min(jnp.where(below, x.shape[-1] - 1, jnp.arange(x.shape[-1], dtype=jnp.int32)), axis=-1)


def _logprobs(scores: Float[Array, "*B V"], tokens: Int[Array, "*B"]) -> Float[Array, "*B"]:
    chosen = jnp.take_along_axis(scores, tokens[..., None], axis=-1)[..., 0]
    return chosen - jax.nn.logsumexp(scores, axis=-1)


def _cut(scores: Float[Array, "*B V"], weights: Float[Array, "*B V"], bound: float) -> Float[Array, "*B V"]:
    """Keeps the scores that have less than `bound` of the weights strictly above them; the others become −∞.

    Finds the least such score by halving the range of all floats, 32 sums over the vocabulary. That needs no sort,
    and a vocabulary that is divided over devices stays divided.
    """
    order = _ordered(jax.lax.stop_gradient(scores))
    weights = jax.lax.stop_gradient(weights)

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        below, kept = ends
        middle = (below & kept) + ((below ^ kept) >> 1)  # the mean, rounded down, without overflow
        above = jnp.sum(jnp.where(order > middle, weights, 0.0), axis=-1, keepdims=True)
        stays = above < bound
        return jnp.where(stays, below, middle), jnp.where(stays, middle, kept)

    highest = jnp.max(order, axis=-1, keepdims=True)
    lowest = jnp.full_like(highest, jnp.iinfo(jnp.int32).min)
    _, least = jax.lax.fori_loop(0, 32, halve, (lowest, highest))
    kept: Bool[Array, "*B V"] = order >= least
    return jnp.where(kept, scores, -jnp.inf)


def _ordered(x: Float[Array, "..."]) -> Int[Array, "..."]:
    """Integers in the order of the floats, next to each other where those are."""
    bits = jax.lax.bitcast_convert_type(jnp.where(x == 0, 0.0, x).astype(jnp.float32), jnp.int32)  # −0 is 0
    return bits ^ ((bits >> 31) & jnp.int32(0x7FFFFFFF))
