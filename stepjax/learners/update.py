"""The update program: all passes and minibatches of a PPO round."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, PRNGKeyArray

from stepjax.config import PPOOptions
from stepjax.credit.divergence import kl_estimate
from stepjax.credit.whiten import masked_mean
from stepjax.errors import UserError
from stepjax.learners.guards import has_guards, pass_guards
from stepjax.learners.kl_control import adapted_coefficient
from stepjax.learners.objectives import critic_objective, joined, objective_columns, policy_objective
from stepjax.learners.optimizers import State, abstract_state, apply_gradients
from stepjax.learners.packing import PackingShape, micro_batch, over_micro_batches, pack
from stepjax.learners.ppo import Metrics, adaptive_weights, make_streams
from stepjax.models import Definition, LanguageModel
from stepjax.models.definition import Params
from stepjax.models.trainable import Trainable, join
from stepjax.parallel import batch_devices, batch_sharding, replicated
from stepjax.programs import Program, abstract
from stepjax.trajectory import Trajectory


def update_program(
    options: PPOOptions,
    policy: Definition[LanguageModel],
    critic: Definition[Any] | None,
    optimizers: Mapping[str, optax.GradientTransformation],
    mesh: Mesh,
    rows: Trajectory,
    trainables: Mapping[str, Trainable] | None = None,
) -> Program:
    """`(state, trajectory, key, iteration) -> (state, metrics)`: all passes and minibatches of a round in one program.

    Where only the `trainables` of the roles' parameters are trained, the others are a fifth argument, by role.

    `state` is `{"policy": …, "critic": …}` (donated), with the coefficients `"kl"` and `"weights"` (by stream) where
    they are adapted; `rows` the
    abstract trajectory that the credit program returns; iterations count from 1. Losses are means over a minibatch's
    response tokens (the policy's: over `options.reduce`); the metrics are means over the minibatches, including those
    that a guard skipped.
    """
    streams = make_streams(options.streams)
    size = rows.tokens.shape[0]
    if size % options.minibatches:
        raise UserError(
            f"config.ppo.minibatches: {options.minibatches} does not divide the {size} responses of a round "
            "(ppo.prompts × ppo.samples)"
        )

    minibatch_rows = size // options.minibatches
    shape = PackingShape.of(
        minibatch_rows,
        rows.tokens.shape[1],
        row_tokens=options.row_tokens,
        micro_tokens=options.micro_tokens,
        devices=batch_devices(mesh),
    )
    objectives: dict[str, Any] = {"policy": functools.partial(policy_objective, options, policy)}
    if critic is not None and not options.critic_frozen:
        objectives["critic"] = functools.partial(critic_objective, options, streams, critic)

    def update(
        state: State, rows: Trajectory, key: PRNGKeyArray, iteration: Array, *frozen: Params
    ) -> tuple[State, Metrics]:
        key = jax.random.fold_in(key, iteration)
        coefficient: Any = state["kl"] if options.kl_target else options.kl

        def minibatch(carry: tuple[State, Array], chosen: Array) -> tuple[tuple[State, Array], Metrics]:
            state, stopped = carry
            packing = pack(rows, chosen, shape)
            columns = objective_columns(options, streams, rows, chosen)

            def descend(i: Array) -> tuple[dict[str, Params], Metrics]:
                batch = micro_batch(rows, packing, i, columns)
                gradients: dict[str, Params] = {}
                metrics: Metrics = {}
                for role, objective in objectives.items():
                    more = {"coefficient": coefficient} if role == "policy" else {}
                    if frozen:
                        objective = _on_part(objective, frozen[0].get(role, {}))
                    (_, found), gradients[role] = jax.value_and_grad(objective, has_aux=True)(
                        state[role]["params"], batch, **more
                    )
                    metrics |= found
                return gradients, metrics

            def add(i: Array, so_far: Any) -> Any:
                gradients, metrics = descend(i)
                total = jax.tree.map(lambda x, y: x + y.astype(x.dtype), so_far[0], gradients)
                return total, joined(so_far[1], metrics)

            nothing = jax.tree.map(
                lambda x: jnp.zeros(x.shape, jnp.float32), jax.eval_shape(descend, jnp.zeros((), jnp.int32))
            )
            gradients, metrics = over_micro_batches(packing, add, nothing)
            gradients = {
                role: jax.tree.map(lambda g, p: g.astype(p.dtype), gradient, state[role]["params"])
                for role, gradient in gradients.items()
            }
            idle: dict[str, Array] = {}  # when a role is not updated; a role that always is, is not in it
            if has_guards(options):
                stopped, skipped = pass_guards(
                    options,
                    stopped,
                    divergence=metrics["kl/update"],
                    ratio_max=metrics["policy/ratio_max"],
                    ratio_mean=metrics.get("policy/ratio_mean", jnp.ones(())),
                )
                metrics |= {
                    "policy/stopped": stopped.astype(jnp.float32),
                    "policy/skipped": skipped.astype(jnp.float32),
                }
                idle = dict.fromkeys(objectives, stopped | skipped)
            if options.critic_warmup or options.critic_refit:
                alone = trains_critic_alone(options, iteration)
                idle["policy"] = idle.get("policy", False) | alone
                if options.critic_refit and "critic" in objectives:
                    idle["critic"] = idle.get("critic", False) | ~alone
            new = dict(state)
            for role, gradient in gradients.items():
                new[role], metrics[f"grad_norm/{role}"] = _apply(
                    state[role], gradient, optimizers[role], idle.get(role)
                )
            return (new, stopped), metrics

        orders = jax.vmap(lambda k: jax.random.permutation(k, size))(jax.random.split(key, options.epochs))
        chosen = orders.reshape(options.epochs * options.minibatches, -1)
        (state, _), metrics = jax.lax.scan(minibatch, (state, jnp.zeros((), bool)), chosen)
        metrics = {k: jnp.max(v) if k.endswith("_max") else jnp.mean(v) for k, v in metrics.items()}
        if options.kl_target:
            state, metrics = dict(state), {**metrics, "kl/coefficient": coefficient}
            state["kl"] = adapted_coefficient(
                coefficient, _divergence(rows), target=options.kl_target, gain=options.kl_gain
            )
        if adaptive := adaptive_weights(options.streams):
            weights = {
                name: adapted_coefficient(
                    state["weights"][name], _divergence(rows), target=o.kl_target, gain=options.kl_gain
                )
                for name, o in adaptive.items()
            }
            state = {**state, "weights": weights}
        return state, metrics

    trainables = trainables or {}
    trained = (trainables.get("policy", policy), trainables.get("critic", critic))
    like = abstract_ppo_state(options, *trained, optimizers, mesh)
    whole = replicated(mesh)
    inputs: tuple[Any, ...] = (
        like,
        abstract(rows, batch_sharding(mesh)),
        abstract(jax.eval_shape(lambda: jax.random.key(0)), whole),
        jax.ShapeDtypeStruct((), jnp.int32, sharding=whole),
    )
    if frozen := {role: t.abstract_frozen(mesh) for role, t in trainables.items() if t.frozen_shapes}:
        inputs += (frozen,)
    shardings = jax.tree.map(lambda x: x.sharding, like)
    return Program(
        "update",
        update,
        mesh=mesh,
        inputs=inputs,
        donate=(0,),
        out_shardings=(shardings, whole),
        turns=shape.turns(minibatch_rows),
    )


def _on_part(objective: Any, frozen: Params) -> Any:
    """The objective as a function of only the trained parameters."""
    return lambda params, batch, **more: objective(join(params, frozen), batch, **more)


def _apply(
    state: State, gradients: Params, optimizer: optax.GradientTransformation, idle: Array | None
) -> tuple[State, Array]:
    """One update of a role, none where `idle`; also the gradient's global norm."""
    if idle is None:
        return apply_gradients(state, gradients, optimizer)
    # A branch, not a choice between two states: large ones need not be held twice.
    state = jax.lax.cond(idle, lambda s, _: s, lambda s, g: apply_gradients(s, g, optimizer)[0], state, gradients)
    return state, optax.tree_utils.tree_norm(gradients)


def _divergence(rows: Trajectory) -> Array:
    """Mean k3 divergence of a round's sampling policy from the reference, nats per token."""
    assert rows.old_logprobs is not None and rows.ref_logprobs is not None
    return masked_mean(kl_estimate(rows.old_logprobs, rows.ref_logprobs, "k3", mask=rows.mask), rows.mask)


def trains_critic_alone(options: PPOOptions, iteration: Any) -> Any:
    """Whether a round (counted from 1) does not train the policy: a warm-up of the critic, or a refit."""
    alone = iteration <= options.critic_warmup
    return alone | ((iteration - 1) % options.critic_refit == 0) if options.critic_refit else alone


def updates_by_role(options: PPOOptions) -> dict[str, int]:
    """Number of updates of each role in a run, without guards: the length of its learning-rate schedule."""
    rounds = range(1, options.iterations + 1)
    alone = sum(bool(trains_critic_alone(options, i)) for i in rounds)
    counts = {"policy": len(rounds) - alone, "critic": alone if options.critic_refit else len(rounds)}
    return {role: count * options.epochs * options.minibatches for role, count in counts.items()}


def abstract_ppo_state(
    options: PPOOptions,
    policy: Definition | Trainable,
    critic: Definition | Trainable | None,
    optimizers: Mapping[str, optax.GradientTransformation],
    mesh: Mesh,
) -> State:
    """Shapes, dtypes and shardings of a run's trained state: roles, and float32[] coefficients that are adapted."""
    roles = {"policy": policy} | ({} if critic is None else {"critic": critic})
    state: State = {role: abstract_state(definition, optimizers[role], mesh) for role, definition in roles.items()}
    scalar = jax.ShapeDtypeStruct((), jnp.float32, sharding=replicated(mesh))
    if options.kl_target:
        state["kl"] = scalar
    if adaptive := adaptive_weights(options.streams):
        state["weights"] = dict.fromkeys(adaptive, scalar)
    return state
