"""Optimisers by options, and a role's training state: parameters and optimiser state, sharded alike."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from stepjax.config import OptimizerOptions
from stepjax.errors import UserError
from stepjax.models.definition import Definition, Params
from stepjax.models.trainable import Trainable
from stepjax.parallel import replicated
from stepjax.programs import abstract

State = dict[str, Any]  # {"params": …, "optimizer": …}


def schedule(options: OptimizerOptions, updates: int) -> optax.Schedule:
    """Learning rate by update: linear warm-up, then constant, linear or cosine decay to `final` × lr."""
    rest = max(updates - options.warmup, 1)
    if options.schedule == "constant":
        after = optax.constant_schedule(options.lr)
    elif options.schedule == "linear":
        after = optax.linear_schedule(options.lr, options.lr * options.final, rest)
    elif options.schedule == "cosine":
        after = optax.cosine_decay_schedule(options.lr, rest, alpha=options.final)
    else:
        raise UserError(f"optimizer.schedule: {options.schedule!r} is not one of constant, linear, cosine")
    warmup = optax.linear_schedule(0.0, options.lr, options.warmup)
    # Update 0 already learns: the warm-up starts one step in.
    return optax.join_schedules([lambda i: warmup(i + 1), after], [options.warmup])


def make_optimizer(options: OptimizerOptions, updates: int) -> optax.GradientTransformation:
    """AdamW with global-norm clipping; moments in float32 for any dtype of the parameters."""
    adamw = optax.adamw(
        schedule(options, updates), b1=options.b1, b2=options.b2, eps=options.eps, weight_decay=options.weight_decay
    )
    return _in_float32(optax.chain(optax.clip_by_global_norm(options.clip), adamw))


class HeadFirst(NamedTuple):
    """State of `head_first`: updates done, and the state of the optimiser inside."""

    done: jax.Array
    inner: Any


def head_first(inner: optax.GradientTransformation, updates: int, trunk: str) -> optax.GradientTransformation:
    """`inner`, which for the first `updates` leaves the sub-tree `trunk` of the parameters as it is.

    Its gradients are 0 by then, so that they neither count in the clipping nor fill the moments.
    """

    def held(tree: Any, done: jax.Array) -> Any:
        moves = (done >= updates).astype(jnp.float32)
        return {k: jax.tree.map(lambda x: x * moves.astype(x.dtype), v) if k == trunk else v for k, v in tree.items()}

    def update(gradients: Any, state: HeadFirst, params: Any = None) -> tuple[Any, HeadFirst]:
        changes, moments = inner.update(held(gradients, state.done), state.inner, params)
        return held(changes, state.done), HeadFirst(state.done + 1, moments)

    return optax.GradientTransformation(lambda params: HeadFirst(jnp.zeros((), jnp.int32), inner.init(params)), update)


def _in_float32(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """`inner` on float32 copies: optax keeps the second moment in the parameters' dtype."""

    def cast(tree: Any) -> Any:
        return optax.tree_utils.tree_cast(tree, jnp.float32)

    def update(gradients: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return inner.update(cast(gradients), state, cast(params))

    return optax.GradientTransformation(lambda params: inner.init(cast(params)), update)


def abstract_state(definition: Definition | Trainable, optimizer: optax.GradientTransformation, mesh: Mesh) -> State:
    """Shapes, dtypes and shardings of a role's training state: moments are sharded as their parameters."""
    params = abstract(definition.shapes, definition.shardings(mesh))
    shapes = jax.eval_shape(optimizer.init, definition.shapes)
    moments = optax.tree_utils.tree_map_params(
        optimizer,
        lambda s, p: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=p.sharding),
        shapes,
        params,
        transform_non_params=lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=replicated(mesh)),
    )
    return {"params": params, "optimizer": moments}


def init_state(params: Params, optimizer: optax.GradientTransformation, like: State, mesh: Mesh) -> State:
    """A fresh training state around `params`, made in its shards. Takes a copy: updates donate their state."""
    shardings = jax.tree.map(lambda x: x.sharding, like)
    with jax.set_mesh(mesh):
        return jax.jit(
            lambda p: {"params": jax.tree.map(jnp.copy, p), "optimizer": optimizer.init(p)}, out_shardings=shardings
        )(params)


def apply_gradients(
    state: State, gradients: Params, optimizer: optax.GradientTransformation
) -> tuple[State, jax.Array]:
    """One update of a role; also the gradient's global norm before clipping."""
    updates, moments = optimizer.update(gradients, state["optimizer"], state["params"])
    state = {"params": optax.apply_updates(state["params"], updates), "optimizer": moments}
    return state, optax.tree_utils.tree_norm(gradients)


def apply_unless(
    state: State, gradients: Params, optimizer: optax.GradientTransformation, idle: jax.Array | None
) -> tuple[State, jax.Array]:
    """One update of a role, none where `idle`; also the gradient's global norm."""
    if idle is None:
        return apply_gradients(state, gradients, optimizer)
    # A branch, not a choice between two states: large ones need not be held twice.
    state = jax.lax.cond(idle, lambda s, _: s, lambda s, g: apply_gradients(s, g, optimizer)[0], state, gradients)
    return state, optax.tree_utils.tree_norm(gradients)
