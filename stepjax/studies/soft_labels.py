"""Loss of a process reward model on labels between bad and good, in whole parts: 3 of 8 completions were right."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from stepjax.learners.supervised import PROMPT, Batch, step_classes
from stepjax.models import ScoreModel, StepReader


def soft_sums(
    model: ScoreModel | StepReader, batch: Batch, *, parts: int, lm_loss: float
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Summed cross-entropy −(v log P(good) + (1 − v) log P(bad)) at each step's last token, v = target / `parts`.

    A reader's language model learns besides, as in `reader_sums`, from the response's tokens in steps with v > 0.
    """
    mask = batch["targets"] >= 0
    value = jnp.maximum(batch["targets"], 0) / parts
    inputs = batch["tokens"], batch["positions"], batch["segments"]
    if isinstance(model, StepReader):
        scores, logprobs = model.scores_and_logprobs(*inputs)
    else:
        scores, logprobs = model(*inputs), jnp.zeros(mask.shape)
    classes = jax.nn.log_softmax(scores, axis=-1)
    losses = jnp.where(mask, -(value * classes[..., 2] + (1 - value) * classes[..., 0]), 0.0)
    learned = (batch["targets"] != PROMPT) & (step_classes(batch["targets"], batch["segments"]) > 0)
    language = -jnp.sum(jnp.where(learned, logprobs, 0.0)) / jnp.maximum(jnp.sum(learned), 1)
    count = jnp.sum(mask)
    return jnp.sum(losses) + lm_loss * count * language, {"tokens": count, "classes_loss": jnp.sum(losses)}
