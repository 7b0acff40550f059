"""From a score a step, or a response, to a reward a token; and step scores from a process reward model."""

from typing import TYPE_CHECKING, Any

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from stepjax.steps import Steps

if TYPE_CHECKING:
    from stepjax.trajectory import Trajectory


def on_step_ends(scores: Float[Array, "B S"], steps: Steps) -> Float[Array, "B T"]:
    """The score of each step on the step's last token; float32, 0 on all others.

    Steps beyond the S that have scores, and steps without a token of their own, pay nothing.

    Args:
      scores: r_k of the steps 0 … S − 1 of each response; what stands behind its last step is not read.
      steps: from `StepSplitter.split`.
    """
    chex.assert_rank(scores, 2)
    there = steps.end & (steps.index < scores.shape[1])
    place = jnp.clip(steps.index, 0, scores.shape[1] - 1)
    return jnp.where(there, jnp.take_along_axis(jnp.asarray(scores, jnp.float32), place, axis=1), 0.0)


def on_response_end(scores: Float[Array, " B"], mask: Bool[Array, "B T"]) -> Float[Array, "B T"]:
    """The score of each response on its last token; float32, 0 on all others, and in rows without a token."""
    chex.assert_rank([scores, mask], [1, 2])
    columns = jnp.arange(mask.shape[1])[None]
    last = mask & (columns == jnp.max(jnp.where(mask, columns, -1), axis=1, keepdims=True))
    return jnp.where(last, jnp.asarray(scores, jnp.float32)[:, None], 0.0)


def score(prm: Any, params: Any, rows: "Trajectory", steps: Steps) -> Float[Array, "B T C"]:
    """Class probabilities of each step by a process reward model, on the step's last token; float32, 0 elsewhere.

    The model reads prompt and response as they were sampled: it has the policy's tokenizer. Of three classes they are
    P(bad), P(neutral), P(good); of two, P(bad) and P(good). Pure: call it inside `jax.jit`.

    Args:
      prm: a `Definition` of a `ScoreModel` or a `StepReader`.
      params: its parameters.
    """
    found = jax.nn.softmax(prm.bind(params)(rows.tokens, rows.positions, rows.segments), axis=-1)
    return jnp.where(steps.end[..., None], found, 0.0)
