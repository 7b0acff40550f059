"""An NNX module split once: its parameters as a plain nested dict, its shardings, its initialisation under jit."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from stepjax.parallel import constrain, named_sharding

M = TypeVar("M", bound=nnx.Module)
Params = dict[str, Any]


def param(
    rngs: nnx.Rngs, shape: tuple[int, ...], axes: tuple[str, ...], init: Callable[..., jax.Array], dtype: Any
) -> nnx.Param:
    """The one declaration of a parameter: shape, logical axes (one name a dimension), initialiser, dtype."""
    assert len(shape) == len(axes), (shape, axes)
    return nnx.Param(init(rngs.params(), shape, dtype), axes=axes)


class Definition(Generic[M]):
    """A module without its parameters' values.

    Attributes:
      shapes: nested dict of `jax.ShapeDtypeStruct`, the tree that `init` returns.
      axes: the same tree with the logical axis names of each parameter.
      paths: the keys that lead to each leaf of these trees.
    """

    def __init__(self, make: Callable[[nnx.Rngs], M]):
        self._make = make
        module = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
        self._graph, state = nnx.split(module, nnx.Param)
        flat = nnx.to_flat_state(state)
        self._apart = [tuple(map(str, path)) for path, node in nnx.iter_graph(module) if getattr(node, "apart", False)]
        self._paths = [path for path, _ in flat]
        self.paths = [tuple(str(key) for key in path) for path in self._paths]
        self._variables = [variable for _, variable in flat]
        self.shapes: Params = self._nest([jax.ShapeDtypeStruct(v.shape, v.dtype) for v in self._variables])
        self.axes: Params = self._nest([v.get_metadata("axes") for v in self._variables])

    def _nest(self, leaves: list[Any]) -> Params:
        tree: Params = {}
        for path, leaf in zip(self._paths, leaves, strict=True):
            node = tree
            for key in path[:-1]:
                node = node.setdefault(str(key), {})
            node[str(path[-1])] = leaf
        return tree

    def _unnest(self, params: Params) -> list[Any]:
        leaves = []
        for path in self._paths:
            node: Any = params
            for key in path:
                node = node[str(key)]
            leaves.append(node)
        return leaves

    def bind(self, params: Params) -> M:
        """The module with these parameters; cheap, meant for use inside `jax.jit`."""
        variables = [v.replace(leaf) for v, leaf in zip(self._variables, self._unnest(params), strict=True)]
        state = nnx.from_flat_state(list(zip(self._paths, variables, strict=True)))
        return nnx.merge(self._graph, state)

    def init(self, key: jax.Array) -> Params:
        """Fresh parameters (pure: call it under `jax.jit`)."""
        _, state = nnx.split(self._make(nnx.Rngs(key)), nnx.Param)
        return self._nest([v[...] for _, v in nnx.to_flat_state(state)])

    def shardings(self, mesh: Mesh) -> Params:
        """The sharding of each parameter on a mesh."""
        return jax.tree.map(lambda s, a: named_sharding(mesh, a, s.shape), self.shapes, self.axes)

    def gathered(self, params: Params, dtype: Any) -> Params:
        """The parameters in `dtype` (norms unchanged), no longer divided over fsdp; for use inside `jax.jit`.

        For many passes in a row: one copy is made before them, in place of one in each.
        """

        def whole(path: tuple[Any, ...], x: jax.Array, axes: tuple[str, ...]) -> jax.Array:
            x = x if path[-1].key.endswith("norm") else x.astype(dtype)
            return constrain(x, *(None if axis == "embed" else axis for axis in axes))

        return jax.tree_util.tree_map_with_path(whole, params, self.axes)

    def taken_apart(self, params: Params) -> Params:
        """The parameters, or some of them, with a tuple of arrays in place of each stack of layers that is read faster
        so; for use inside `jax.jit`, before a loop of many passes. `bind` takes them, `stacked` puts them together."""

        def walk(tree: Params, path: tuple[str, ...]) -> Params:
            if path in self._apart:
                return {name: tuple(stack[i] for i in range(stack.shape[0])) for name, stack in tree.items()}
            return {name: walk(x, (*path, name)) if isinstance(x, dict) else x for name, x in tree.items()}

        return walk(params, ())

    def sharded_init(self, key: jax.Array, mesh: Mesh, **given: Params) -> Params:
        """Fresh parameters, each made in its own shard; `given` sub-trees (a trained trunk, say) take their place.

        Given arrays that have the right sharding already are not copied.
        """
        with jax.set_mesh(mesh):
            make = jax.jit(
                lambda key: _without(self.init(key), given), out_shardings=_without(self.shardings(mesh), given)
            )
            return _replaced(make(key), given, self.shardings(mesh))


def stacked(params: Params) -> Params:
    """What `Definition.taken_apart` took apart, in stacks again."""
    return {
        name: stacked(x) if isinstance(x, dict) else jnp.stack(x) if isinstance(x, tuple) else x
        for name, x in params.items()
    }


def _replaced(params: Params, given: Params, shardings: Params) -> Params:
    """`params` and the leaves of `given`, which are not copied where they have `shardings` already."""
    inner = {
        k: _replaced(params.get(k, {}), v, shardings[k]) if isinstance(v, dict) else jax.device_put(v, shardings[k])
        for k, v in given.items()
    }
    return {**params, **inner}


def _without(tree: Params, given: Params) -> Params:
    """`tree` without the leaves that `given` has."""
    return {
        k: _without(v, given[k]) if k in given else v
        for k, v in tree.items()
        if k not in given or isinstance(given[k], dict)
    }
