"""The implicit process reward model φ [PRIME 2502.01456]: its rewards of a round, and its training on the outcomes.

    r_t = β · (log φ(y_t) − log π_ref(y_t)),  z = Σ_t r_t,  loss = mean of −o · log σ(z) − (1 − o) · log σ(−z)

φ and π_ref are language models that read the same tokens; the outcome o of a response is 1 where its answer is right,
else 0. A truncated response has no outcome: it is paid, but φ does not train on it.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from stepjax.config import PPOOptions
from stepjax.errors import UserError
from stepjax.learners.losses import outcome_loss
from stepjax.learners.objectives import Metrics, summed_gradients
from stepjax.learners.optimizers import State, abstract_state, apply_unless
from stepjax.learners.packing import (
    PackedRows,
    PackingShape,
    buffers,
    micro_batch,
    of_next_tokens,
    over_micro_batches,
    pack,
    put_at,
    unpacked,
)
from stepjax.learners.policy_losses import pooled
from stepjax.learners.score import response_logprobs
from stepjax.learners.train_on import of_informative
from stepjax.models import Definition, LanguageModel
from stepjax.models.definition import Params
from stepjax.models.trainable import Trainable, join
from stepjax.parallel import batch_sharding, constrain, replicated
from stepjax.programs import Program, abstract
from stepjax.rewards.places import last_token
from stepjax.trajectory import Trajectory

LEAST_RETURN = 1e-6
"""Added to the largest return before rewards are divided by it, as the authors' code does: noise stays small."""

GROWS_WITH = "config.ppo.max_new_tokens or config.ppo.micro_tokens"
"""Options that the memory of both programs grows with."""


def implicit_score_program(
    options: PPOOptions, policy: Definition[LanguageModel], mesh: Mesh, rows: Trajectory
) -> Program:
    """`(φ, trajectory) -> (rewards float32[B, T], log-odds float32[B])`; `rows` as the score program leaves them.

    Rewards are divided by the batch's largest return where `implicit.normalise`; the log-odds z never are.
    """
    b, t = rows.tokens.shape
    shape = _shape(options, b, t, mesh)

    def score(params: Params, rows: Trajectory) -> tuple[Array, Array]:
        packing, model = pack(rows, jnp.arange(b, dtype=jnp.int32), shape), policy.bind(policy.taken_apart(params))

        def read(i: Array) -> Array:
            batch = micro_batch(rows, packing, i, {})
            return response_logprobs(model, batch, temperature=options.temperature, entropy=False)[0]

        packed = buffers(jax.eval_shape(read, jnp.zeros((), jnp.int32)), packing)
        packed = over_micro_batches(packing, lambda i, found: put_at(found, i, read(i)), packed)
        logprobs = constrain(of_next_tokens(unpacked(packed, packing, rows)), "batch", "time")
        assert rows.ref_logprobs is not None
        rewards = jnp.where(rows.mask, options.implicit.beta * (logprobs - rows.ref_logprobs), 0.0)
        log_odds = jnp.sum(rewards, axis=1)
        return (rewards / (largest_return(rewards) + LEAST_RETURN) if options.implicit.normalise else rewards), log_odds

    inputs = (abstract(policy.shapes, policy.shardings(mesh)), abstract(rows, batch_sharding(mesh)))
    outputs: Any = batch_sharding(mesh)
    told: dict[str, Any] = {"turns": shape.turns(b), "nested": shape.trips(b), "grows_with": GROWS_WITH}
    return Program("implicit_score", score, mesh=mesh, inputs=inputs, out_shardings=outputs, **told)


def largest_return(rewards: Float[Array, "B T"]) -> Float[Array, ""]:
    """The largest absolute sum of the rewards from a token on."""
    return jnp.max(jnp.abs(jnp.cumsum(rewards[:, ::-1], axis=1)))


def implicit_objective(
    options: PPOOptions, policy: Definition[LanguageModel], params: Params, batch: PackedRows
) -> tuple[Array, Metrics]:
    """Σ over the responses of a micro-batch of their loss times its weight, which lies on their last token."""
    logprobs, _ = response_logprobs(policy.bind(params), batch, temperature=options.temperature, entropy=False)
    log_ratio = jnp.where(batch.mask, logprobs - batch.columns["ref_logprobs"], 0.0)
    log_odds = options.implicit.beta * pooled(log_ratio, batch.segments, batch, mean=False)
    losses = outcome_loss(log_odds, batch.columns["right"], mask=batch.mask)
    loss = jnp.sum(losses * jnp.where(batch.mask, batch.columns["outcome_weight"], 0.0))
    return loss, {"implicit/train_loss": loss}


def outcome_columns(
    options: PPOOptions, rows: Trajectory, correct: Bool[Array, " B"], chosen: Array
) -> tuple[dict[str, Array], Array]:
    """Inputs of the objective, `[B, T]` each, for the minibatch of the rows `chosen`; how many have an outcome."""
    assert rows.ref_logprobs is not None
    counted = rows.finished & jnp.any(rows.mask, axis=1)
    if options.implicit.train_on == "informative":
        counted &= of_informative(correct & rows.finished, options.samples)
    counted &= jnp.zeros(counted.shape, bool).at[chosen].set(True)
    count = jnp.sum(counted, dtype=jnp.int32)
    return {
        "ref_logprobs": rows.ref_logprobs,
        "right": jnp.broadcast_to(correct[:, None], rows.mask.shape).astype(jnp.float32),
        "outcome_weight": (last_token(rows) & counted[:, None]) / jnp.maximum(count, 1).astype(jnp.float32),
    }, count


def implicit_update_program(
    options: PPOOptions,
    policy: Definition[LanguageModel],
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    rows: Trajectory,
    trainable: Trainable,
) -> Program:
    """`(state, trajectory, correct, key, iteration) -> (state, metrics)`: a round's training of φ, the state donated.

    Where only `trainable` is trained, the other parameters are a sixth argument. `correct`: bool[B]. A minibatch in
    which no response has an outcome changes nothing.
    """
    size, o = rows.tokens.shape[0], options.implicit
    shape = _shape(options, rows_of_implicit_minibatch(options, size), rows.tokens.shape[1], mesh)

    def update(
        state: State, rows: Trajectory, correct: Array, key: PRNGKeyArray, iteration: Array, *frozen: Params
    ) -> tuple[State, Metrics]:
        still = [policy.taken_apart(of_role) for of_role in frozen]

        def objective(params: Params, batch: PackedRows) -> tuple[Array, Metrics]:
            return implicit_objective(options, policy, join(params, *still) if still else params, batch)

        def minibatch(state: State, chosen: Array) -> tuple[State, Metrics]:
            columns, count = outcome_columns(options, rows, correct, chosen)
            packing = pack(rows, chosen, shape)
            batch = functools.partial(micro_batch, rows, packing, columns=columns)
            params = {"φ": policy.taken_apart(state["params"])}
            gradients, metrics = summed_gradients({"φ": objective}, params, packing, batch)
            state, norm = apply_unless(state, gradients["φ"], optimizer, count == 0)
            return state, metrics | {"implicit/grad_norm": norm}

        keys = jax.random.split(jax.random.fold_in(key, iteration), o.epochs)
        orders = jax.vmap(lambda k: jax.random.permutation(k, size))(keys)
        state, metrics = jax.lax.scan(minibatch, state, orders.reshape(o.epochs * o.minibatches, -1))
        return state, {k: jnp.mean(v) for k, v in metrics.items()}

    like, whole, by_row = abstract_state(trainable, optimizer, mesh), replicated(mesh), batch_sharding(mesh)
    inputs: tuple[Any, ...] = (
        like,
        abstract(rows, by_row),
        jax.ShapeDtypeStruct((size,), jnp.bool_, sharding=by_row),
        abstract(jax.eval_shape(lambda: jax.random.key(0)), whole),
        jax.ShapeDtypeStruct((), jnp.int32, sharding=whole),
    )
    if trainable.frozen_shapes:
        inputs += (trainable.abstract_frozen(mesh),)
    outputs = (jax.tree.map(lambda x: x.sharding, like), whole)
    count = size // o.minibatches
    given: dict[str, Any] = {"inputs": inputs, "donate": (0,), "out_shardings": outputs}
    told: dict[str, Any] = {"turns": shape.turns(count), "nested": shape.trips(count), "grows_with": GROWS_WITH}
    return Program("implicit_update", update, mesh=mesh, **given, **told)


def rows_of_implicit_minibatch(options: PPOOptions, responses: int) -> int:
    """How many of a round's responses φ reads for one update; UserError where they cannot be divided evenly."""
    if responses % options.implicit.minibatches:
        raise UserError(
            f"config.ppo.implicit.minibatches: {options.implicit.minibatches} does not divide the {responses} "
            "responses of a round (ppo.prompts × ppo.samples)"
        )
    return responses // options.implicit.minibatches


def _shape(options: PPOOptions, count: int, longest: int, mesh: Mesh) -> PackingShape:
    sizes = {"row_tokens": options.row_tokens, "micro_tokens": options.micro_tokens}
    return PackingShape.on(mesh, count, longest, **sizes)
