"""Mapping between parameters and a checkpoint's tensors: names, folded dimensions, and slices."""

import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from stepjax.errors import UserError
from stepjax.models.checkpoint_folder import CheckpointFolder
from stepjax.models.definition import Params
from stepjax.models.families import Family
from stepjax.models.safetensors_file import Entry
from stepjax.models.tensor_names import EMBEDDING, PREFIX, UNEMBEDDING
from stepjax.parallel import fetch, replicated

Path = tuple[str, ...]

FOLDS = {"query": (1, 2), "key": (1, 2), "value": (1, 2), "output": (2, 1)}
"""How many dimensions of a projection fold into its inputs and into its outputs; others: one each."""


@dataclass(frozen=True)
class Place:
    """Place of a parameter in a checkpoint.

    Attributes:
      names: the tensor, or one per layer.
      folds: how many of the parameter's dimensions (the layers' apart) make up each dimension of the tensor, in the
        parameter's order.
      transposed: the tensor has its two dimensions the other way round.
      padded: the parameter's dimension (the layers' apart) that may have more rows than the tensor, filled with 0.
    """

    names: tuple[str, ...]
    stacked: bool
    folds: tuple[int, ...]
    transposed: bool = False
    padded: int | None = None

    def tensor_shape(self, shape: tuple[int, ...], rows: int | None = None) -> tuple[int, ...]:
        """Of each tensor, for a parameter of this shape whose padded dimension has `rows` real rows."""
        inner = list(shape[1:] if self.stacked else shape)
        if self.padded is not None and rows is not None:
            inner[self.padded] = rows
        folded, at = [], 0
        for n in self.folds:
            folded.append(math.prod(inner[at : at + n]))
            at += n
        return tuple(reversed(folded)) if self.transposed else tuple(folded)

    def read(self, tensor: np.ndarray, index: tuple[slice, ...], shape: tuple[int, ...], out: np.ndarray) -> None:
        """Writes the part `index` of the parameter (the layers' dimension apart) to `out`, cast to its dtype."""
        slices, at = [], 0
        for n in self.folds:
            sizes, parts = shape[at : at + n], index[at : at + n]
            assert all(s == slice(0, size) for s, size in zip(parts[1:], sizes[1:], strict=True)), "split inside a head"
            inner = math.prod(sizes[1:])
            slices.append(slice(parts[0].start * inner, parts[0].stop * inner))
            at += n
        found = tensor[tuple(reversed(slices)) if self.transposed else tuple(slices)]
        found = found.T if self.transposed else found
        if self.padded is None:
            out[...] = found.reshape(out.shape)
        else:
            out[...] = 0
            out[tuple(slice(0, size) for size in found.shape)] = found

    def write(self, value: np.ndarray, rows: int | None) -> np.ndarray:
        """The tensor of one layer's (or the whole) parameter."""
        if self.padded is not None and rows is not None:
            value = value[tuple(slice(0, rows) if i == self.padded else slice(None) for i in range(value.ndim))]
        sizes, at = [], 0
        for n in self.folds:
            sizes.append(math.prod(value.shape[at : at + n]))
            at += n
        value = value.reshape(sizes)
        return value.T if self.transposed else value


def trunk_place(family: Family, path: Path, layers: int) -> Place | None:
    """Place of a parameter of a `LanguageModel`; None where it is not one of its own (a head, say)."""
    if path == ("trunk", "embedding"):
        return Place((EMBEDDING,), False, (1, 1), padded=0)
    if path == ("unembedding",):
        return Place((UNEMBEDDING,), False, (1, 1), transposed=True, padded=1)
    if path == ("trunk", "norm"):
        return Place((f"{PREFIX}norm.weight",), False, (1,))
    if path[:2] != ("trunk", "layers"):
        return None
    name = path[2]
    weight = name.removesuffix("_bias")
    if weight not in family.modules:
        return None
    end = "weight" if weight == name else "bias"
    names = tuple(f"{PREFIX}layers.{i}.{family.modules[weight]}.{end}" for i in range(layers))
    if name != weight:
        return Place(names, True, (2 if weight in ("query", "key", "value") else 1,))
    if name.endswith("_norm"):
        return Place(names, True, (1,))
    return Place(names, True, FOLDS.get(name, (1, 1)), transposed=True)


def tensor_names(places: Mapping[Path, Place]) -> list[str]:
    """The tensors of these places."""
    return [name for place in places.values() for name in place.names]


def read_params(
    checkpoint: CheckpointFolder, places: Mapping[Path, Place], shapes: Params, shardings: Params, rows: int
) -> Params:
    """Parameters from the tensors of a checkpoint, each device's part read and cast on its own.

    Args:
      places: of each leaf of `shapes`; leaves without a place are left out.
      shapes, shardings: trees of `jax.ShapeDtypeStruct` and of `NamedSharding`.
      rows: real rows of a padded dimension, the checkpoint's vocabulary.

    Raises:
      UserError: a tensor is missing or has another shape, or a file is damaged.
    """
    leaves = [(p, shape) for p, shape in _flat(shapes) if p in places]
    for path, leaf in leaves:
        _check(checkpoint, places[path], leaf, rows)
    kinds = dict(_flat(shardings))
    found: Params = {}
    # The largest first: the largest temporary copy is then made while the least is held.
    for path, leaf in sorted(leaves, key=lambda x: -math.prod(x[1].shape)):
        node = found
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = _read(checkpoint.named, places[path], leaf, kinds[path])
    return found


def _flat(tree: Params, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, (*path, key))
        else:
            yield (*path, key), value


def _check(checkpoint: CheckpointFolder, place: Place, leaf: Any, rows: int) -> None:
    wanted = place.tensor_shape(leaf.shape, rows)
    for name in place.names:
        if name not in checkpoint.named:
            raise UserError(f"{checkpoint.path}: tensor {name} is missing")
        entry = checkpoint.named[name]
        if entry.shape != wanted:
            raise UserError(
                f"{checkpoint.path}: tensor {name} has shape {list(entry.shape)}, {checkpoint.described} says "
                f"{list(wanted)}"
            )
        if not jnp.issubdtype(entry.dtype, jnp.floating):
            raise UserError(
                f"{checkpoint.path}: tensor {name} has dtype {entry.dtype}; quantised weights are not supported"
            )


def _read(tensors: Mapping[str, Entry], place: Place, leaf: Any, sharding: Any) -> jax.Array:
    inner = leaf.shape[1:] if place.stacked else leaf.shape
    devices: dict[tuple[tuple[int, int], ...], list[jax.Device]] = {}
    for device, index in sharding.addressable_devices_indices_map(leaf.shape).items():
        bounds = tuple(
            (s.start or 0, size if s.stop is None else s.stop) for s, size in zip(index, leaf.shape, strict=True)
        )
        devices.setdefault(bounds, []).append(device)
    arrays = []
    for bounds, owners in devices.items():
        part = np.empty([stop - start for start, stop in bounds], leaf.dtype)
        slices = tuple(slice(*b) for b in bounds)
        if place.stacked:
            for i, layer in enumerate(range(*bounds[0])):
                tensors[place.names[layer]].visit(
                    functools.partial(place.read, index=slices[1:], shape=inner, out=part[i])
                )
        else:
            tensors[place.names[0]].visit(functools.partial(place.read, index=slices, shape=inner, out=part))
        arrays += [jax.device_put(part, device) for device in owners]
        jax.block_until_ready(arrays[-len(owners) :])
        del part
    return jax.make_array_from_single_device_arrays(leaf.shape, sharding, arrays)


def written_tensors(
    places: Mapping[Path, Place], params: Params, mesh: Mesh, rows: int
) -> tuple[dict[str, tuple[tuple[int, ...], Any]], Iterator[np.ndarray]]:
    """Shapes and dtypes of a checkpoint's tensors by name, and the tensors one after the other.

    Every process of a multi-host run must go through all of them.
    """
    leaves = [(places[path], value) for path, value in _flat(params) if path in places]
    shapes = {
        name: (place.tensor_shape(value.shape, rows), np.dtype(value.dtype))
        for place, value in leaves
        for name in place.names
    }

    def tensors() -> Iterator[np.ndarray]:
        for place, value in leaves:
            for i in range(len(place.names)):
                part = fetch(_layer(mesh)(value, i)) if place.stacked else fetch(value)
                yield np.ascontiguousarray(place.write(part, rows))

    return shapes, tensors()


@functools.cache
def _layer(mesh: Mesh) -> Any:
    """One layer of a stacked parameter, whole on every device."""

    def take(x: jax.Array, i: jax.Array) -> jax.Array:
        return jax.lax.dynamic_index_in_dim(x, i, keepdims=False)

    return jax.jit(take, out_shardings=replicated(mesh))
