"""Heads of process reward models and verifiers: scores per token, on a trunk.

The number of `outputs` of a `ScoreModel` tells its kind: three logits (bad, neutral, good), two (bad, good) or one. One
output is the log-odds of good where it was trained as such (a public value head), or a score of its own: an outcome
reward model reads it at the last step, a token-level verifier [Cobbe 2021] at every token.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from stepjax.models.config import DecoderConfig
from stepjax.models.decoder import Trunk
from stepjax.models.definition import param
from stepjax.models.heads import ScoreModel


class TwoLayerScores(nnx.Module):
    """A trunk whose scores a hidden layer with ReLU computes, as `Qwen2ForProcessRewardModel` does [Zhang 2025]."""

    def __init__(self, config: DecoderConfig, outputs: int, rngs: nnx.Rngs):
        self.trunk = Trunk(config, rngs)
        width, dtype, zeros = config.width, config.param_dtype, nnx.initializers.zeros
        init = nnx.initializers.normal(width**-0.5)
        self.hidden = param(rngs, (width, width), ("embed", "mlp"), init, dtype)
        self.hidden_bias = param(rngs, (width,), ("mlp",), zeros, dtype)
        self.head = param(rngs, (width, outputs), ("mlp", "outputs"), zeros, dtype)
        self.bias = param(rngs, (outputs,), ("outputs",), zeros, dtype)

    def __call__(
        self, tokens: Int[Array, "B T"], positions: Int[Array, "B T"], segments: Int[Array, "B T"]
    ) -> Float[Array, "B T N"]:
        """Scores at each token, having read it; float32."""
        x = self.trunk(tokens, positions, segments)
        x = jnp.matmul(x, self.hidden[...].astype(x.dtype), preferred_element_type=jnp.float32)
        x = jax.nn.relu(x + self.hidden_bias[...].astype(jnp.float32))
        return x @ self.head[...].astype(jnp.float32) + self.bias[...].astype(jnp.float32)


def class_probabilities(scores: Float[Array, "... N"]) -> Float[Array, "... C"]:
    """P(bad), (P(neutral),) P(good) of a head's outputs: their softmax, or of a single one, log-odds, its sigmoid."""
    if scores.shape[-1] > 1:
        return jax.nn.softmax(scores, axis=-1)
    good = jax.nn.sigmoid(scores)
    return jnp.concatenate([1.0 - good, good], axis=-1)


def public_head(config: DecoderConfig, head: str, rngs: nnx.Rngs) -> ScoreModel | TwoLayerScores:
    """The model of a convention's head (`stepjax.rewards.conventions`): its outputs are bad and good, or log-odds."""
    if head == "two_layer":
        return TwoLayerScores(config, 2, rngs)
    return ScoreModel(config, 1 if head == "value" else 2, rngs)
