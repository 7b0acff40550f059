"""Low-rank adapters on the projections of a decoder [Hu 2021, 2106.09685].

y = x·W + (alpha / rank) · (x·A)·B with A [in, rank] and B [rank, out], for each adapted projection of each layer; B
starts at 0, so that a fresh adapter changes nothing. A and B are parameters of their own, `NAME_lora_a` and
`NAME_lora_b`, next to the weight `NAME` that they adapt: float32, sharded as its dimensions are, stacked over layers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from stepjax.models.definition import Params, param

MODULES = ("query", "key", "value", "output", "gate", "up", "down")
"""The projections that can be adapted."""

A, B = "_lora_a", "_lora_b"


@dataclass(frozen=True)
class LoRA:
    """Adapters of a decoder.

    Attributes:
      rank: columns of A, at least 1.
      alpha: the adapters' sum is scaled by alpha / rank.
      modules: which projections, of `MODULES`.
    """

    rank: int
    alpha: float
    modules: tuple[str, ...] = MODULES

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


def add_adapters(layers: Any, lora: LoRA | None, count: int, rngs: nnx.Rngs) -> None:
    """Declares the adapters of `count` stacked layers, next to the weights that `layers` already has."""
    for name in lora.modules if lora is not None else ():
        weight: nnx.Param = getattr(layers, name)
        axes, inputs = weight.get_metadata("axes"), _inputs(name)
        first, last = weight.shape[1 : 1 + inputs], weight.shape[1 + inputs :]
        fan_in = 1
        for size in first:
            fan_in *= size
        assert lora is not None
        # The spread of PEFT's uniform draw from ±1/√in.
        init = nnx.initializers.normal((3 * fan_in) ** -0.5)
        into = param(rngs, (count, *first, lora.rank), (*axes[: 1 + inputs], "rank"), init, jnp.float32)
        out = param(
            rngs,
            (count, lora.rank, *last),
            ("layers", "rank", *axes[1 + inputs :]),
            nnx.initializers.zeros,
            jnp.float32,
        )
        setattr(layers, name + A, into)
        setattr(layers, name + B, out)


def _inputs(name: str) -> int:
    """How many of a weight's dimensions, after that of the layers, are read from: the attention's output has two."""
    return 2 if name == "output" else 1


def low_rank(
    lora: LoRA | None,
    weights: dict[str, jax.Array],
    name: str,
    product: Callable[[jax.Array, jax.Array], jax.Array],
    x: jax.Array,
    second: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
) -> jax.Array | None:
    """The output of the adapter of one layer's projection; None where it has none.

    `product(x, A)` and `second(x·A, B)` multiply as the projection does; `second` is `product` where not given.
    """
    if lora is None or name not in lora.modules:
        return None
    return (second or product)(product(x, weights[name + A]), weights[name + B]) * lora.scale


def is_adapter(path: tuple[str, ...]) -> bool:
    """Whether a parameter's path leads to an adapter."""
    return path[-1].endswith((A, B))


def merge(params: Params, lora: LoRA) -> Params:
    """The same model without adapters: each is added to its weight, in float32, and kept in the weight's dtype."""

    def merged(tree: Params) -> Params:
        found: Params = {}
        for name, leaf in tree.items():
            if isinstance(leaf, dict):
                found[name] = merged(leaf)
            elif not name.endswith((A, B)):
                found[name] = _merged(leaf, tree[name + A], tree[name + B], lora) if name + A in tree else leaf
        return found

    return merged(params)


def _merged(weight: jax.Array, into: jax.Array, out: jax.Array, lora: LoRA) -> jax.Array:
    layers, rank = into.shape[0], into.shape[-1]
    product = jnp.einsum(
        "lir,lro->lio",
        into.reshape(layers, -1, rank),
        out.reshape(layers, rank, -1),
        precision=jax.lax.Precision.HIGHEST,
    )
    return (weight.astype(jnp.float32) + lora.scale * product.reshape(weight.shape)).astype(weight.dtype)
