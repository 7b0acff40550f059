"""The score program: log-probabilities, values and scores of sampled responses, before the update."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float

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
from stepjax.models import Definition, LanguageModel, ScoreModel, StepReader
from stepjax.models.definition import Params
from stepjax.parallel import batch_sharding, constrain
from stepjax.programs import Program, abstract
from stepjax.steps import StepSplitter
from stepjax.trajectory import Trajectory


def response_logprobs(
    model: LanguageModel, rows: PackedRows, *, temperature: float, entropy: bool = True
) -> tuple[Float[Array, "R L"], Float[Array, "R L"]]:
    """log π and entropy of each next token that is the response's, over what the sampler kept if that is recorded; 0
    elsewhere. Where the `entropy` is not asked for, it is 0 everywhere.
    """
    hidden = model.trunk(*rows.read, parts=rows.parts)
    asked: dict[str, Any] = {"temperature": temperature, "kept": rows.kept, "entropy": entropy}
    found = model.token_logprobs(hidden, rows.targets, read=rows.mask, most=rows.most, **asked)
    logprobs, spread = (jnp.where(rows.mask, x, 0.0) for x in found)
    return logprobs, spread


def score_program(
    policy: Definition[LanguageModel],
    critic: Definition[Any] | None,
    prm: Definition[ScoreModel] | Definition[StepReader] | None,
    splitter: StepSplitter,
    mesh: Mesh,
    rows: Trajectory,
    *,
    temperature: float,
    row_tokens: int = 0,
    micro_tokens: int = 0,
) -> Program:
    """`(policy, reference, critic, prm, trajectory) -> trajectory` with steps, log-probs, values and step scores.

    `rows` is the abstract trajectory of the rollout. Where a role is absent (`None`) its parameters are `{}` and its
    columns stay `None`. The models read the responses packed, in micro-batches (`PackingShape.of`).
    """

    b, t = rows.tokens.shape
    shape = PackingShape.on(mesh, b, t, row_tokens=row_tokens, micro_tokens=micro_tokens)

    def score(
        policy_params: Params, ref_params: Params, critic_params: Params, prm_params: Params, rows: Trajectory
    ) -> Trajectory:
        # An environment's tokens are part of the text, but not of a step: only the policy's own are credited.
        steps = splitter.split(rows.tokens, rows.response).only(rows.mask)
        packing = pack(rows, jnp.arange(b, dtype=jnp.int32), shape)
        own, reference = (policy.bind(policy.taken_apart(p)) for p in (policy_params, ref_params))
        values = None if critic is None else critic.bind(critic.taken_apart(critic_params))
        scores = None if prm is None else prm.bind(prm.taken_apart(prm_params))

        def read(i: Array) -> dict[str, Array]:
            batch = micro_batch(rows, packing, i, {})
            found = {}
            found["old_logprobs"], found["entropy"] = response_logprobs(own, batch, temperature=temperature)
            found["ref_logprobs"], _ = response_logprobs(reference, batch, temperature=temperature, entropy=False)
            if values is not None:
                found["after"] = values(*batch.read, parts=batch.parts)
            if scores is not None:
                found["prm"] = jax.nn.softmax(scores(*batch.read, parts=batch.parts), axis=-1)
            return found

        packed = buffers(jax.eval_shape(read, jnp.zeros((), jnp.int32)), packing)
        packed = over_micro_batches(packing, lambda i, found: put_at(found, i, read(i)), packed)
        found: dict[str, Any] = {name: unpacked(x, packing, rows) for name, x in packed.items()}
        for name in ("old_logprobs", "entropy", "ref_logprobs"):
            found[name] = jnp.where(rows.mask, of_next_tokens(found[name]), 0.0)
        found = {name: constrain(x, "batch", "time", *[None] * (x.ndim - 2)) for name, x in found.items()}
        if critic is not None:
            after = found.pop("after")
            before = jnp.where(rows.mask[..., None], of_next_tokens(after), 0.0)
            last = jnp.take_along_axis(after, rows.last[:, None, None], axis=1)[:, 0]
            found["values"] = before.swapaxes(1, 2)
            found["bootstrap"] = jnp.where(rows.finished[:, None], 0.0, last)
        if prm is not None:
            found["prm"] = jnp.where(steps.end[..., None], found["prm"], 0.0)
        return dataclasses.replace(rows, steps=steps, **found)

    def params(definition: Definition | None) -> Any:
        return {} if definition is None else abstract(definition.shapes, definition.shardings(mesh))

    inputs = (params(policy), params(policy), params(critic), params(prm), abstract(rows, batch_sharding(mesh)))
    told: dict[str, Any] = {"turns": shape.turns(b), "nested": shape.trips(b)}
    told["grows_with"] = "config.ppo.max_new_tokens or config.ppo.micro_tokens"
    return Program("score", score, mesh=mesh, inputs=inputs, out_shardings=batch_sharding(mesh), **told)
