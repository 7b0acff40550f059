"""The update program: all passes and minibatches of a PPO round."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from stepjax.config import PPOOptions
from stepjax.errors import UserError
from stepjax.learners.objectives import critic_objective, policy_objective
from stepjax.learners.optimizers import State, abstract_state
from stepjax.learners.packing import PackingShape
from stepjax.learners.ppo import adaptive_weights, make_streams
from stepjax.learners.update_passes import UpdatePasses, trains_critic_alone
from stepjax.models import Definition, LanguageModel
from stepjax.models.trainable import Trainable
from stepjax.parallel import batch_sharding, replicated
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
    they are adapted; `rows` the abstract trajectory that the credit program returns; iterations count from 1. Losses
    are means over a minibatch's response tokens (the policy's: over `options.reduce`); the metrics are means over the
    minibatches, those that a guard held back included.
    """
    streams = make_streams(options.streams)
    minibatch_rows = rows_of_minibatch(options, rows.tokens.shape[0])
    sizes = {"row_tokens": options.row_tokens, "micro_tokens": options.micro_tokens}
    shape = PackingShape.on(mesh, minibatch_rows, rows.tokens.shape[1], **sizes)
    definitions: dict[str, Definition] = {"policy": policy}
    objectives: dict[str, Any] = {"policy": functools.partial(policy_objective, options, policy)}
    if critic is not None and not options.critic_frozen:
        definitions["critic"] = critic
        objectives["critic"] = functools.partial(critic_objective, options, streams, critic)
    passes = UpdatePasses(options, tuple(streams), definitions, objectives, optimizers, shape)

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
        passes.update,
        mesh=mesh,
        inputs=inputs,
        donate=(0,),
        out_shardings=(shardings, whole),
        turns=shape.turns(minibatch_rows),
        nested=shape.trips(minibatch_rows),
        grows_with="config.ppo.max_new_tokens or config.ppo.micro_tokens",
    )


def rows_of_minibatch(options: PPOOptions, responses: int) -> int:
    """How many of a round's responses are in each minibatch; UserError where they cannot be divided evenly."""
    if responses % options.minibatches:
        raise UserError(
            f"config.ppo.minibatches: {options.minibatches} does not divide the {responses} responses of a round "
            "(ppo.prompts × ppo.samples)"
        )
    return responses // options.minibatches


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
