"""Which dimension of the engine's arrays is divided over the devices along the batch."""

import dataclasses
from typing import Any

import jax

from stepjax.models.cache import Cache, KeyValues
from stepjax.rollout.slots import Prompts, Queue, Slots

QUEUE_AXES: Any = Queue(0, 0, 0, 0, 0, 0, 0, 0, 0)  # type: ignore[arg-type]


def slot_axes(slots: Slots) -> Any:
    """Of slots: the rows, the first dimension but in stacked layers."""
    axes: dict[str, Any] = jax.tree.map(
        lambda _: 0, {f.name: getattr(slots, f.name) for f in dataclasses.fields(slots)}
    )
    layers = layer_axes(slots.cache.layers)
    axes["cache"] = Cache(layers=layers, positions=0, segments=0, index=None)  # type: ignore[arg-type]
    return Slots(**axes)


def prompt_axes(prompts: Prompts) -> Any:
    """Of prompts: the second dimension, behind the chunks."""
    axes: dict[str, Any] = jax.tree.map(
        lambda _: 1, {f.name: getattr(prompts, f.name) for f in dataclasses.fields(prompts)}
    )
    axes["layers"] = layer_axes(prompts.layers, 1)
    return Prompts(**axes)


def layer_axes(layers: Any, leading: int = 0) -> Any:
    """Of keys and values: the rows (or the blocks), behind the layers where these are stacked."""
    stacked = not isinstance(layers, tuple)
    return jax.tree.map(lambda _: leading + stacked, layers)


def column_axes(layers: Any) -> Any:
    """Of keys and values: the columns, counted from the last dimension."""

    def one(of: KeyValues) -> KeyValues:
        return KeyValues(-1, -2, *(None if x is None else -1 for x in (of.key_scales, of.value_scales)))  # type: ignore[arg-type]

    return tuple(one(x) for x in layers) if isinstance(layers, tuple) else one(layers)
