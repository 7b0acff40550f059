"""Arithmetic of a model: floating-point operations of its mathematics, independent of the implementation.

2 per parameter that a token is multiplied with, 4 per channel of the query heads for each token that it attends to;
three times as much for training, without recomputation [Chowdhery 2022, appendix B].
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from stepjax.models.definition import Definition, Params

TRAINING = 3
"""A forward and a backward pass, in forward passes."""


def product_params(definition: Definition) -> int:
    """Parameters that every token is multiplied with: all matrices but a table that tokens are looked up in.

    A table that is the output embedding, too, is counted.
    """
    total = 0
    for axes, shape in _leaves(definition.axes, definition.shapes):
        own = [a for a in axes if a != "layers"]
        if len(own) > 1 and ("embed" in own or "rank" in own) and own != ["vocab", "embed"]:
            total += math.prod(shape)
    return total + _tied_tables(definition.shapes)


def attention_channels(definition: Definition) -> int:
    """Layers × query heads × head size, of all trunks."""
    found = 0
    for axes, shape in _leaves(definition.axes, definition.shapes):
        if axes == ("layers", "embed", "heads", "head_dim"):
            found += shape[0] * shape[2] * shape[3]
    return found


def forward_flops(definition: Definition, *, tokens: float, pairs: float) -> float:
    """Of a forward pass over `tokens` tokens that attend to `pairs` tokens in total (n²/2 for a causal row of n)."""
    return 2.0 * product_params(definition) * tokens + 4.0 * attention_channels(definition) * pairs


def _leaves(axes: Mapping[str, Any], shapes: Params) -> Iterator[tuple[tuple[str, ...], tuple[int, ...]]]:
    for name, value in axes.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, shapes[name])
        else:
            yield tuple(value), tuple(shapes[name].shape)


def _tied_tables(shapes: Params) -> int:
    """Entries of the embeddings that are output matrices: those of models with a trunk and nothing on it."""
    total = math.prod(shapes["trunk"]["embedding"].shape) if set(shapes) == {"trunk"} else 0
    for name, part in shapes.items():
        if isinstance(part, dict) and name != "trunk":
            total += _tied_tables(part)
    return total
