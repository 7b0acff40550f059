"""The rollout: prompts prefilled at once, then one jitted loop that decodes until every row has ended."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Int, PRNGKeyArray

from stepjax.models import Definition, LanguageModel
from stepjax.models.definition import Params
from stepjax.parallel import batch_sharding, constrain, replicated
from stepjax.programs import Program, abstract
from stepjax.rollout.sampling import Sampler, row_keys
from stepjax.trajectory import Trajectory


@dataclass(frozen=True)
class RolloutShape:
    """Sizes that a rollout is compiled for.

    Attributes:
      rows: responses at once.
      prompt_width: tokens of the widest prompt.
      new_tokens: tokens of the longest response, its end-of-text token included.
    """

    rows: int
    prompt_width: int
    new_tokens: int


def generate(
    model: LanguageModel,
    prompts: Int[Array, "B P"],
    prompt_length: Int[Array, " B"],
    keys: PRNGKeyArray,
    *,
    new_tokens: int,
    eos: int,
    sampler: Sampler,
) -> Trajectory:
    """Samples a response a row (pure, meant for jit).

    Args:
      prompts: padded on the left, so that every prompt ends in the last column.
      keys: one a row; token t of a row uses `fold_in(key, t)`.
      eos: the id that ends a response and is its last token.
    """
    b, width = prompts.shape
    total = width + new_tokens
    start = Trajectory(
        tokens=jnp.pad(prompts, ((0, 0), (0, new_tokens))),
        prompt_length=prompt_length,
        response_length=jnp.zeros(b, jnp.int32),
        finished=jnp.zeros(b, bool),
        logprobs=jnp.zeros((b, total), jnp.float32),
        prompt_width=width,
    )
    positions, segments = start.positions[:, :width], start.segments[:, :width]
    # The last sampled token is never read again: it needs no slot.
    cache = model.trunk.empty_cache(b, total - 1 if new_tokens > 1 else total)
    hidden, cache = model.trunk.extend(prompts, positions, segments, cache, fresh=True)

    def unfinished(carry: Any) -> jax.Array:
        t, rows, _, _ = carry
        return (t < new_tokens) & ~jnp.all(rows.finished)

    def step(carry: Any) -> Any:
        t, rows, hidden, cache = carry
        live = ~rows.finished
        logits = constrain(model.logits(hidden), "batch", "vocab")
        token, logprob = sampler(jax.vmap(jax.random.fold_in, (0, None))(keys, t), logits)
        token = jnp.where(live, token, 0)
        at = width + t
        rows = Trajectory(
            tokens=jax.lax.dynamic_update_slice(rows.tokens, token[:, None], (0, at)),
            prompt_length=prompt_length,
            response_length=rows.response_length + live,
            finished=rows.finished | (token == eos) & live,
            logprobs=jax.lax.dynamic_update_slice(rows.logprobs, jnp.where(live, logprob, 0.0)[:, None], (0, at)),
            prompt_width=width,
        )
        position = prompt_length + t
        hidden, cache = model.trunk.extend(token[:, None], position[:, None], live.astype(jnp.int32)[:, None], cache)
        return t + 1, rows, hidden[:, 0], cache

    carry = (jnp.zeros((), jnp.int32), start, hidden[:, -1], cache)
    return jax.lax.while_loop(unfinished, step, carry)[1]


def rollout_program(
    definition: Definition[LanguageModel], mesh: Mesh, shape: RolloutShape, *, eos: int, sampler: Sampler
) -> Program:
    """`(params, prompts [B, P], prompt_length [B], key [], row_ids [B]) -> Trajectory`.

    Row i's tokens depend on `key`, `row_ids[i]` and its prompt alone.
    """

    def rollout(
        params: Params,
        prompts: Int[Array, "B P"],
        prompt_length: Int[Array, " B"],
        key: PRNGKeyArray,
        ids: Int[Array, " B"],
    ) -> Trajectory:
        model = definition.bind(params)
        keys = row_keys(key, ids)
        return generate(model, prompts, prompt_length, keys, new_tokens=shape.new_tokens, eos=eos, sampler=sampler)

    rows = batch_sharding(mesh)

    def ints(*dims: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(dims, jnp.int32, sharding=rows)

    inputs = (
        abstract(definition.shapes, definition.shardings(mesh)),
        ints(shape.rows, shape.prompt_width),
        ints(shape.rows),
        abstract(jax.eval_shape(lambda: jax.random.key(0)), replicated(mesh)),
        ints(shape.rows),
    )
    return Program("rollout", rollout, mesh=mesh, inputs=inputs, out_shardings=rows)
