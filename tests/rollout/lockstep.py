"""All rows in lockstep, one loop until the slowest has ended: what the slot engine is held against."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Int, PRNGKeyArray

from stepjax.models import LanguageModel
from stepjax.parallel import constrain
from stepjax.rollout.environment import HostTool
from stepjax.rollout.sampling import Sampler
from stepjax.trajectory import Trajectory


def generate(
    model: LanguageModel,
    prompts: Int[Array, "B P"],
    prompt_length: Int[Array, " B"],
    keys: PRNGKeyArray,
    *,
    new_tokens: int,
    eos: int,
    sampler: Sampler,
    tool: HostTool | None = None,
    mesh: Mesh | None = None,
) -> Trajectory:
    """Samples a response a row (pure, meant for jit, but for the questions put to a tool).

    Args:
      prompts: padded on the left, so that every prompt ends in the last column.
      keys: one a row; token t of a row uses `fold_in(key, t)`.
      eos: the id that ends a response and is its last token.
      tool: an environment that may write into the responses; its tokens have log-probability 0 and are `env_tokens`.
      mesh: over which a tool's questions are divided.
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
        env_tokens=None if tool is None else jnp.zeros((b, total), bool),
    )
    queue = () if tool is None else (jnp.zeros((b, tool.reply_tokens), jnp.int32), jnp.zeros(b, jnp.int32))
    positions, segments = start.positions[:, :width], start.segments[:, :width]
    # The last sampled token is never read again: it needs no slot.
    cache = model.trunk.empty_cache(b, total - 1 if new_tokens > 1 else total)
    hidden, cache = model.trunk.extend(prompts, positions, segments, cache, fresh=True)

    def unfinished(carry: Any) -> jax.Array:
        t, rows, *_ = carry
        return (t < new_tokens) & ~jnp.all(rows.finished)

    def step(carry: Any) -> Any:
        t, rows, hidden, cache, queue = carry
        live = ~rows.finished
        own = live
        logits = constrain(model.logits(hidden), "batch", "vocab")
        token, logprob = sampler(jax.vmap(jax.random.fold_in, (0, None))(keys, t), logits)
        if tool is not None:
            replies, left = queue
            own = live & (left == 0)
            token = jnp.where(own, token, replies[:, 0])
            queue = jnp.roll(replies, -1, axis=1), jnp.maximum(left - 1, 0)
        token = jnp.where(live, token, 0)
        at = width + t
        rows = Trajectory(
            tokens=jax.lax.dynamic_update_slice(rows.tokens, token[:, None], (0, at)),
            prompt_length=prompt_length,
            response_length=rows.response_length + live,
            finished=rows.finished | (token == eos) & own,
            logprobs=jax.lax.dynamic_update_slice(rows.logprobs, jnp.where(own, logprob, 0.0)[:, None], (0, at)),
            prompt_width=width,
            env_tokens=None
            if rows.env_tokens is None
            else jax.lax.dynamic_update_slice(rows.env_tokens, (live & ~own)[:, None], (0, at)),
        )
        if tool is not None:
            asked = own & tool.may_ask(token)
            replies, counts = tool.ask(mesh, rows.tokens[:, width:], rows.response_length, asked)
            queue = jnp.where(asked[:, None], replies, queue[0]), jnp.where(asked, counts, queue[1])
        position = prompt_length + t
        hidden, cache = model.trunk.extend(token[:, None], position[:, None], live.astype(jnp.int32)[:, None], cache)
        return t + 1, rows, hidden[:, 0], cache, queue

    carry = (jnp.zeros((), jnp.int32), start, hidden[:, -1], cache, queue)
    return jax.lax.while_loop(unfinished, step, carry)[1]
