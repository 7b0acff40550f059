"""Heads on a trunk: a language model's logits, or a few scores per token (critic, process reward model)."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from stepjax.kept import Kept
from stepjax.models.backends import gathers_reads
from stepjax.models.block import rms_norm
from stepjax.models.config import DecoderConfig
from stepjax.models.decoder import Trunk
from stepjax.models.definition import param
from stepjax.models.layers import Layers, full_pass
from stepjax.models.read_positions import chunk_for, most_read, over_read
from stepjax.parallel import constrain
from stepjax.row_parts import shifted

_IMPOSSIBLE = -1e9


class LanguageModel(nnx.Module):
    """A policy: trunk and (tied or free) output embedding."""

    def __init__(self, config: DecoderConfig, rngs: nnx.Rngs):
        self.trunk = Trunk(config, rngs)
        if not config.tied:
            init = nnx.initializers.normal(config.width**-0.5)
            self.unembedding = param(rngs, (config.width, config.vocab), ("embed", "vocab"), init, config.param_dtype)

    @property
    def _table(self) -> jax.Array:
        """The parameter that the output matrix is made of."""
        return self.trunk.embedding[...] if self.trunk.config.tied else self.unembedding[...]

    def logits(self, hidden: Float[Array, "... D"]) -> Float[Array, "... V"]:
        """Logits in float32; ids that are not entries of the vocabulary have −1e30."""
        return self._of_entries(self._product(self._table, hidden))

    def _product(self, table: jax.Array, hidden: Float[Array, "... D"]) -> Float[Array, "... V"]:
        config = self.trunk.config
        table = (table.T if config.tied else table).astype(config.dtype)
        return jnp.matmul(hidden, table, preferred_element_type=jnp.float32)

    def _of_entries(self, logits: Float[Array, "... V"]) -> Float[Array, "... V"]:
        """Logits of such products: capped, and only of the vocabulary's entries."""
        config = self.trunk.config
        if config.logit_cap:
            logits = config.logit_cap * jnp.tanh(logits / config.logit_cap)
        if config.entries is not None and config.entries < config.vocab:
            logits = jnp.where(jnp.arange(config.vocab) < config.entries, logits, -1e30)
        return logits

    def __call__(self, tokens: Int[Array, "B T"]) -> Float[Array, "B T V"]:
        """Logits of whole, unpadded rows: position t predicts token t + 1."""
        positions = jnp.broadcast_to(jnp.arange(tokens.shape[1], dtype=jnp.int32), tokens.shape)
        return self.logits(self.trunk(tokens, positions, jnp.ones_like(tokens)))

    def token_logprobs(
        self,
        hidden: Float[Array, "B T D"],
        targets: Int[Array, "B T"],
        *,
        temperature: float = 1.0,
        kept: Kept | None = None,
        entropy: bool = True,
        read: Bool[Array, "B T"] | None = None,
        most: Int[Array, ""] | None = None,
        chunk: int = 0,
    ) -> tuple[Float[Array, "B T"], Float[Array, "B T"]]:
        """log π(targets | hidden) and the entropy of π, both float32, under logits / temperature.

        `hidden[:, t]` is the state that predicts `targets[:, t]`. Runs over chunks of `chunk` positions (0:
        `chunk_for`) and recomputes their logits in the backward pass, so that [B, T, V] does not exist (but on a CPU
        where it is no larger than the output matrix).

        Args:
          kept: the tokens of each position that π is renormalised over, the target among them; None: all.
          entropy: whether it is asked for; otherwise it is 0.
          read: the positions that are asked for, what others have means nothing; None: all. Where a device is faster
            so (`gathers_reads`), no logits are computed but of chunks that hold some of them.
          most: how many of these a device has at most; None: they are counted, which crosses a mesh.
        """
        chunk = chunk or chunk_for(len(hidden), self.trunk.config.vocab)

        def piece(products: jax.Array, rest: tuple[jax.Array, Kept | None]) -> tuple[jax.Array, jax.Array]:
            targets, kept = rest
            logits = constrain(self._of_entries(products) / temperature, "batch", "time", "vocab")
            drawn_from = logits if kept is None else kept.restrict(logits, targets)
            normaliser = jax.nn.logsumexp(drawn_from, axis=-1)
            chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
            if not entropy:
                return (chosen - normaliser, jnp.zeros_like(normaliser))
            spread = normaliser - jnp.sum(jnp.exp(drawn_from - normaliser[..., None]) * drawn_from, axis=-1)
            return chosen - normaliser, spread

        if read is not None and targets.shape[1] > chunk and gathers_reads():
            most = most_read(read) if most is None else most
            found = over_read(self._product, piece, self._table, hidden, (targets, kept), read, most, chunk=chunk)
            return found[0], found[1]

        def whole(hidden: jax.Array, targets: jax.Array, kept: Kept | None) -> tuple[jax.Array, jax.Array]:
            return piece(self._product(self._table, hidden), (targets, kept))

        logprobs, spread = _over_chunks(whole, chunk, hidden, targets, kept)
        return logprobs, spread

    def divergence(
        self,
        hidden: Float[Array, "B T D"],
        other: "LanguageModel",
        others: Float[Array, "B T D"],
        *,
        chunk: int = 0,
    ) -> Float[Array, "B T"]:
        """KL(π ‖ π_other) over the vocabulary at each position, float32, in nats; `others`: hidden states of `other`.

        In chunks, as `token_logprobs`.
        """
        chunk = chunk or chunk_for(len(hidden), self.trunk.config.vocab)

        def piece(hidden: jax.Array, others: jax.Array) -> tuple[jax.Array]:
            own, theirs = (
                jax.nn.log_softmax(constrain(model.logits(states), "batch", "time", "vocab"), axis=-1)
                for model, states in ((self, hidden), (other, others))
            )
            return (jnp.sum(jnp.exp(own) * (own - theirs), axis=-1),)

        return _over_chunks(piece, chunk, hidden, others)[0]


def _over_chunks(piece: Callable[..., tuple[Array, ...]], chunk: int, *inputs: Any) -> tuple[Array, ...]:
    """`piece`, which gives arrays [B, T], over chunks of the second axis; it is computed again in the backward pass."""
    b, t = inputs[0].shape[:2]
    if t <= chunk:
        found: tuple[Array, ...] = jax.checkpoint(piece)(*inputs)
        return found
    chunk = -(-t // -(-t // chunk))  # all alike, and hardly any padding
    pad = -t % chunk

    def in_chunks(x: jax.Array) -> jax.Array:
        padded = jnp.pad(x, ((0, 0), (0, pad), *[(0, 0)] * (x.ndim - 2)))
        return padded.reshape(b, -1, chunk, *x.shape[2:]).swapaxes(0, 1)

    pieces = jax.lax.map(lambda x: jax.checkpoint(piece)(*x), jax.tree.map(in_chunks, inputs))
    return tuple(x.swapaxes(0, 1).reshape(b, t + pad)[:, :t] for x in pieces)


class ScoreModel(nnx.Module):
    """A trunk with `outputs` scores per token: one value per reward stream (critic), or one logit per class (PRM)."""

    def __init__(self, config: DecoderConfig, outputs: int, rngs: nnx.Rngs, *, absent: int | None = None):
        """`absent`: the output whose class is impossible, a logit of almost −∞."""
        self.absent = absent
        self.trunk = Trunk(config, rngs)
        # Zero: a new critic has value 0 everywhere, a fresh PRM finds all classes equally likely.
        self.head = param(
            rngs, (config.width, outputs), ("embed", "outputs"), nnx.initializers.zeros, config.param_dtype
        )
        self.bias = param(rngs, (outputs,), ("outputs",), nnx.initializers.zeros, config.param_dtype)

    def __call__(
        self, tokens: Int[Array, "B T"], positions: Int[Array, "B T"], segments: Int[Array, "B T"], *, parts: int = 1
    ) -> Float[Array, "B T N"]:
        """Scores at each token, having read it; float32."""
        hidden = self.trunk(tokens, positions, segments, parts=parts).astype(jnp.float32)
        scores = hidden @ self.head[...].astype(jnp.float32) + self.bias[...].astype(jnp.float32)
        return _without(scores, self.absent)


class StepReader(nnx.Module):
    """A score model that also reads each token's probability under a language model of its own.

    The language model (trunk and output embedding) predicts each token before it is read; layers on top see the hidden
    state and that log-probability. Tokens of a step that such a model does not expect may be wrong, so a small one
    needs far fewer labels than with only a head. It is also trained on good steps, as the token-level verifier of
    [Cobbe 2021] is on solutions.
    """

    def __init__(self, config: DecoderConfig, layers: int, outputs: int, rngs: nnx.Rngs, *, absent: int | None = None):
        """`absent`: the output whose class is impossible, a logit of almost −∞."""
        self.absent = absent
        self.language = LanguageModel(config, rngs)
        self.config = dataclasses.replace(config, lora=None, layers=layers, windows=(), local_rope=None)
        self.layers = Layers(self.config, rngs)
        width, dtype = config.width, config.param_dtype
        init = nnx.initializers.normal(1.0)
        self.likelihood = param(rngs, (2, width), ("outputs", "embed"), init, dtype)
        self.norm = param(rngs, (width,), ("width",), nnx.initializers.constant(1.0 - config.norm_offset), dtype)
        self.head = param(rngs, (width, outputs), ("embed", "outputs"), nnx.initializers.zeros, dtype)
        self.bias = param(rngs, (outputs,), ("outputs",), nnx.initializers.zeros, dtype)

    def scores_and_logprobs(
        self, tokens: Int[Array, "B T"], positions: Int[Array, "B T"], segments: Int[Array, "B T"], *, parts: int = 1
    ) -> tuple[Float[Array, "B T N"], Float[Array, "B T"]]:
        """Scores at each token, and each token's log-probability (0 for the first of a segment); float32."""
        hidden = self.language.trunk(tokens, positions, segments, parts=parts)
        following, _ = self.language.token_logprobs(hidden, shifted(tokens, parts, -1), entropy=False)
        logprobs = shifted(following, parts, 1) * (positions > 0)
        features = jnp.stack([logprobs, jnp.exp(logprobs)], axis=-1).astype(hidden.dtype)
        x = hidden + features @ self.likelihood[...].astype(hidden.dtype)
        x = full_pass(self.config, self.layers, x, positions, segments, parts)
        x = rms_norm(x, self.norm[...], self.config.norm_eps, self.config.norm_offset)
        scores = x.astype(jnp.float32) @ self.head[...].astype(jnp.float32) + self.bias[...].astype(jnp.float32)
        return _without(scores, self.absent), logprobs

    def __call__(
        self, tokens: Int[Array, "B T"], positions: Int[Array, "B T"], segments: Int[Array, "B T"], *, parts: int = 1
    ) -> Float[Array, "B T N"]:
        """Scores at each token, having read it; float32."""
        return self.scores_and_logprobs(tokens, positions, segments, parts=parts)[0]


def _without(scores: Float[Array, "B T N"], absent: int | None) -> Float[Array, "B T N"]:
    """The scores, with the logit of an impossible class so low that it has no probability and no gradient."""
    if absent is None:
        return scores
    return jnp.where(jnp.arange(scores.shape[-1]) == absent, _IMPOSSIBLE, scores)
