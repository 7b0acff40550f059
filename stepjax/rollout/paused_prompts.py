"""What further rows of a paused rollout begin with: their texts, and where these lie among the prompts."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Int

from stepjax.parallel import on_each_device
from stepjax.rollout.axes import QUEUE_AXES
from stepjax.rollout.slots import Prompts, Queue
from stepjax.rollout.stops import Stops, states_behind


def states(
    stops: Stops | None,
    mesh: Mesh,
    tokens: Array,
    queue: Queue,
    begins: Array | None = None,
    number: Array | None = None,
) -> Array | None:
    """int32[Q], the state behind each of some prompts of the automaton that may stop rows; None: all begin anew.

    `begins`: the rows whose prompts they are (None: all); `number`: of places among the prompts (None: all)."""
    if stops is None or queue.start is None:
        return None

    def local(tokens: Array, queue: Queue, begins: Array) -> Array:
        assert queue.start is not None and stops is not None
        at = jnp.where(begins & (queue.prompt >= 0), queue.prompt, len(tokens))
        begun = jnp.zeros(len(tokens), jnp.int32).at[at].max(queue.start, mode="drop")
        return states_behind(stops, tokens, begun)

    if begins is None:
        begins = jnp.ones(queue.id.shape, bool)
    if number is not None:
        queue = numbered(mesh, queue, number)
    return on_each_device(local, mesh, (0, QUEUE_AXES, 0), 0)(tokens, queue, begins)


def texts(mesh: Mesh, width: int, tokens: Array, length: Array, queue: Queue) -> tuple[Array, Array]:
    """Each row's prompt, without the response's first tokens, which lie behind it."""

    def local(tokens: Array, length: Array, queue: Queue) -> tuple[Array, Array]:
        start = jnp.zeros_like(queue.id) if queue.start is None else queue.start
        first = tokens.shape[1] - start - width
        columns = first[:, None] + jnp.arange(width)
        own = jnp.take_along_axis(tokens[queue.prompt], jnp.maximum(columns, 0), axis=1)
        return own, length[queue.prompt] - start

    return on_each_device(local, mesh, (0, 0, QUEUE_AXES), (0, 0))(tokens, length, queue)


def numbers(mesh: Mesh, devices: int, pool: Prompts, place: Array) -> Array:
    """int32[places], which of some prompts lies in each place; −1 of other places."""
    places = pool.length.shape[0] * pool.length.shape[1] // devices

    def local(place: Array) -> Array:
        own = jnp.arange(place.shape[0], dtype=jnp.int32)
        return jnp.full(places, -1, jnp.int32).at[place].set(own, mode="drop")

    return on_each_device(local, mesh, (0,), 0)(place)  # type: ignore[no-any-return]


def numbered(mesh: Mesh, queue: Queue, number: Array) -> Queue:
    """With the number of its prompt for each row, not the place; −1 where it has none."""

    def at(queue: Queue, number: Array) -> Queue:
        return dataclasses.replace(queue, prompt=number[queue.prompt])

    return on_each_device(at, mesh, (QUEUE_AXES, 0), QUEUE_AXES)(queue, number)  # type: ignore[no-any-return]


def chosen(rows: Bool[Array, " N"], new: Any, old: Any) -> Any:
    """Trees of arrays with a line for each row: the new ones of some rows, the old ones of the others."""
    return jax.tree.map(lambda a, b: jnp.where(rows.reshape(-1, *(1,) * (b.ndim - 1)), a, b), new, old)


def replaced(pool: Prompts, found: Prompts, place: Int[Array, " A"]) -> Prompts:
    """One device's prompts with those that were found, in their places."""
    size = pool.positions.shape[1]
    chunk, within = place // size, place % size

    def put(into: Array, new: Array) -> Array:
        return into.at[chunk, within].set(new[0], mode="drop")

    def stacked(into: Array, new: Array) -> Array:
        return into.at[chunk, :, within].set(new[0].swapaxes(0, 1), mode="drop")

    layers = jax.tree.map(put if isinstance(pool.layers, tuple) else stacked, pool.layers, found.layers)
    rest = {f.name: getattr(pool, f.name) for f in dataclasses.fields(pool) if f.name != "layers"}
    others = jax.tree.map(put, rest, {name: getattr(found, name) for name in rest})
    return Prompts(layers=layers, **others)
