"""The least work of a workload: FLOPs of matrix products, bytes of parameters and caches.

Padding, recomputation and all but matrix products are left out, so that the fraction of the machine's rate is that of
useful work. FLOPs are counted as in `models/flops.py`, but for logits, which count only where they are
needed, and for attention, where a token sees itself and those before it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from stepjax.models import DecoderConfig, Definition
from stepjax.models.flops import TRAINING, attention_channels, product_params


@dataclass(frozen=True)
class Work:
    flops: float
    bytes: float

    def __add__(self, other: "Work") -> "Work":
        return Work(self.flops + other.flops, self.bytes + other.bytes)


@dataclass(frozen=True)
class Model:
    """Cost of a model per token.

    Attributes:
      weights: that each token is multiplied with, the output embedding of a language model apart.
      output: entries of that output embedding; 0: there is none.
      channels: of all query heads, in all layers.
      kept: numbers that the cache holds of a token.
      item, stored: bytes of a number in computing, and of a stored parameter.
    """

    weights: int
    output: int
    channels: int
    kept: int
    item: int
    stored: int

    @classmethod
    def of(cls, definition: Definition, decoder: DecoderConfig, *, language: bool) -> "Model":
        output = decoder.width * decoder.vocab if language else 0
        return cls(
            weights=product_params(definition) - output,
            output=output,
            channels=attention_channels(definition),
            kept=2 * decoder.layers * decoder.kv_heads * decoder.head_dim,
            item=np.dtype(decoder.dtype).itemsize,
            stored=np.dtype(decoder.param_dtype).itemsize,
        )

    def flops(self, read: Any, before: Any = 0, logits: Any = 0) -> float:
        """Of reading `read` tokens behind `before` others, with logits at so many of them; summed over rows."""
        read, before, logits = (np.asarray(x, np.float64) for x in (read, before, logits))
        pairs = read * before + read * (read + 1) / 2
        return float(2 * np.sum(self.weights * read + 2 * self.channels * pairs) + 2 * np.sum(self.output * logits))


def rollout_work(model: Model, prompts: Any, prompt: Any, response: Any, slots: int) -> Work:
    """Of responses (`prompt` and `response`: tokens of each row's) to prompts of `prompts` tokens, each read once.

    Bytes: the weights once for the prompts and once for each step of full slots, and each row's keys and values once
    for every token that it draws.
    """
    prompt, response = np.asarray(prompt, np.float64), np.asarray(response, np.float64)
    fed = np.maximum(response - 1, 0)  # the last token that is drawn is never read
    steps = 1 + np.sum(response) / slots
    context = np.sum(fed * prompt + fed * (fed + 1) / 2)
    return Work(
        model.flops(prompts) + model.flops(fed, prompt, response),
        float(model.item * (steps * (model.weights + model.output) + model.kept * context)),
    )


def pass_work(model: Model, prompt: Any, response: Any) -> Work:
    """Of one pass over whole rows, with logits at the response's tokens. Bytes: the weights once."""
    read = np.asarray(prompt) + np.asarray(response)
    logits = response if model.output else 0
    return Work(model.flops(read, 0, logits), float(model.stored * (model.weights + model.output)))


def training_work(model: Model, prompt: Any, response: Any, updates: int) -> Work:
    """Of a forward and a backward pass over rows that are divided over `updates` updates.

    Bytes, in each update: the weights in both directions; their gradients, written and read; in the optimiser the
    weights and two float32 moments, each read and written.
    """
    stored, weights = model.stored, model.weights + model.output
    flops = TRAINING * pass_work(model, prompt, response).flops
    return Work(flops, float(updates * weights * (2 * stored + 2 * stored + 2 * stored + 4 * 4)))
