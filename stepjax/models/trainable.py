"""Which of a model's parameters a stage trains and saves, and which stay frozen."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.sharding import Mesh

from stepjax.models.definition import Definition, Params
from stepjax.models.lora import is_adapter
from stepjax.programs import abstract

Chosen = Callable[[tuple[str, ...]], bool]
"""Predicate: whether the parameter at a path is trained."""


def everything(path: tuple[str, ...]) -> bool:
    return True


def without_adapters(path: tuple[str, ...]) -> bool:
    return not is_adapter(path)


def adapters_and_heads(path: tuple[str, ...]) -> bool:
    """All but the weights of trunks and of the output embedding: what is trained where the base is frozen."""
    return is_adapter(path) or ("trunk" not in path and path[-1] != "unembedding")


def split(params: Mapping[str, Any], chosen: Chosen) -> tuple[Params, Params]:
    """The chosen leaves of a nested dict, and the others; a branch without leaves is left out."""
    ours: Params = {}
    frozen: Params = {}

    def walk(tree: Mapping[str, Any], path: tuple[str, ...]) -> None:
        for name, value in tree.items():
            here = (*path, str(name))
            if isinstance(value, Mapping):
                walk(value, here)
                continue
            node = ours if chosen(here) else frozen
            for key in path:
                node = node.setdefault(key, {})
            node[str(name)] = value

    walk(params, ())
    return ours, frozen


def join(ours: Params, frozen: Params) -> Params:
    """The tree that was split; leaves are not copied."""
    found = dict(ours)
    for name, value in frozen.items():
        found[name] = join(ours[name], value) if name in ours else value
    return found


class Trainable:
    """The chosen parameters of a definition, for optimisers, states and checkpoints.

    Attributes:
      definition: of the whole module.
      shapes: nested dict of the chosen leaves' `jax.ShapeDtypeStruct`.
    """

    def __init__(self, definition: Definition, chosen: Chosen = everything):
        self.definition, self.chosen = definition, chosen
        self.shapes: Params = split(definition.shapes, chosen)[0]

    def shardings(self, mesh: Mesh) -> Params:
        return split(self.definition.shardings(mesh), self.chosen)[0]

    def split(self, params: Params) -> tuple[Params, Params]:
        """The chosen leaves of the module's parameters, and the others."""
        return split(params, self.chosen)

    @property
    def frozen_shapes(self) -> Params:
        """Shapes of the others; {} where all are chosen."""
        return split(self.definition.shapes, self.chosen)[1]

    def abstract_frozen(self, mesh: Mesh) -> Params:
        """Shapes, dtypes and shardings of the others, for a program."""
        return abstract(self.frozen_shapes, split(self.definition.shardings(mesh), self.chosen)[1])

    def frozen_of(self, given: Params) -> Params:
        """The others, found in a tree that has them (and perhaps more), uncopied."""

        def found(shapes: Params, tree: Params) -> Params:
            return {k: found(v, tree[k]) if isinstance(v, dict) else tree[k] for k, v in shapes.items()}

        return found(self.frozen_shapes, given)

    def init_frozen(self, key: jax.Array, mesh: Mesh) -> Params:
        """Fresh others, in their shards."""
        shardings = split(self.definition.shardings(mesh), self.chosen)[1]
        with jax.set_mesh(mesh):
            make = jax.jit(lambda key: split(self.definition.init(key), self.chosen)[1], out_shardings=shardings)
            return make(key)
