"""The score program: everything that one pass over sampled responses tells before the update."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float

from stepjax.models import Definition, LanguageModel, ScoreModel, StepReader
from stepjax.models.definition import Params
from stepjax.parallel import batch_sharding, constrain
from stepjax.programs import Program, abstract
from stepjax.steps import StepSplitter
from stepjax.trajectory import Trajectory


def response_logprobs(
    model: LanguageModel, rows: Trajectory, *, temperature: float
) -> tuple[Float[Array, "B T"], Float[Array, "B T"]]:
    """log π and entropy of each response token, 0 elsewhere; only the response's columns reach the output matrix."""
    width = rows.prompt_width
    hidden = model.trunk(rows.tokens, rows.positions, rows.segments)
    found = model.token_logprobs(hidden[:, width - 1 : -1], rows.tokens[:, width:], temperature=temperature)
    mask = rows.mask
    logprobs, entropy = (jnp.where(mask, jnp.pad(x, ((0, 0), (width, 0))), 0.0) for x in found)
    return logprobs, entropy


def token_values(critic: ScoreModel, rows: Trajectory) -> tuple[Float[Array, "B N T"], Float[Array, "B N"]]:
    """Values of the state before each response token, and the bootstrap value after a truncated response."""
    after = critic(rows.tokens, rows.positions, rows.segments).swapaxes(1, 2)  # [B, N, T], having read token t
    before = jnp.pad(after[:, :, :-1], ((0, 0), (0, 0), (1, 0)))
    values = jnp.where(rows.mask[:, None], before, 0.0)
    last = jnp.take_along_axis(after, rows.last[:, None, None], axis=2)[:, :, 0]
    return values, jnp.where(rows.finished[:, None], 0.0, last)


def step_scores(prm: ScoreModel | StepReader, rows: Trajectory, end: Array) -> Float[Array, "B T C"]:
    """Class probabilities at the last token of each step, 0 elsewhere."""
    probabilities = jax.nn.softmax(prm(rows.tokens, rows.positions, rows.segments), axis=-1)
    return jnp.where(end[..., None], probabilities, 0.0)


def score_program(
    policy: Definition[LanguageModel],
    critic: Definition[Any] | None,
    prm: Definition[ScoreModel] | Definition[StepReader] | None,
    splitter: StepSplitter,
    mesh: Mesh,
    rows: Trajectory,
    *,
    temperature: float,
) -> Program:
    """`(policy, reference, critic, prm, trajectory) -> trajectory` with steps, log-probs, values and step scores.

    `rows` is the abstract trajectory of the rollout. Where a role is absent (`None`) its parameters are `{}` and its
    columns stay `None`.
    """

    def score(
        policy_params: Params, ref_params: Params, critic_params: Params, prm_params: Params, rows: Trajectory
    ) -> Trajectory:
        # What an environment wrote is part of the text, but no token of a step: credit is for the policy's own.
        steps = splitter.split(rows.tokens, rows.response).only(rows.mask)
        logprobs, entropy = response_logprobs(policy.bind(policy_params), rows, temperature=temperature)
        ref, _ = response_logprobs(policy.bind(ref_params), rows, temperature=temperature)
        new: dict[str, Any] = {"steps": steps, "old_logprobs": logprobs, "ref_logprobs": ref, "entropy": entropy}
        if critic is not None:
            new["values"], new["bootstrap"] = token_values(critic.bind(critic_params), rows)
        if prm is not None:
            new["prm"] = constrain(step_scores(prm.bind(prm_params), rows, steps.end), "batch", "time", None)
        return dataclasses.replace(rows, **new)

    def params(definition: Definition | None) -> Any:
        return {} if definition is None else abstract(definition.shapes, definition.shardings(mesh))

    inputs = (params(policy), params(policy), params(critic), params(prm), abstract(rows, batch_sharding(mesh)))
    return Program("score", score, mesh=mesh, inputs=inputs, out_shardings=batch_sharding(mesh))
