"""The slot engine: a fixed number of rows decode together, and a finished one makes room for the next at once.

Lengths of reasoning are heavy-tailed: a batch that waits for its slowest row spends most of its time on rows that ended
long ago. Here prompts are prefilled first, each once for all of its samples, into a pool. Then one loop decodes
`slots` rows; the slot of a row that ends takes the next row of the queue in the same step, so that a response of n
tokens holds a slot for exactly n steps. Nothing of that crosses to the host.

All slots write their next key and value in the same column, which goes round in a ring behind the prompts' columns: a
response never outlives a turn of the ring, and what earlier rows left there is told apart by its segment, 0. So a step
writes one slice, whatever rows began when.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from stepjax.models import LanguageModel
from stepjax.models.attention import Cache
from stepjax.parallel import RULES, batch_devices, constrain
from stepjax.rollout.environment import HostTool, Replies
from stepjax.rollout.sampling import Sampler
from stepjax.trajectory import Trajectory


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Pool:
    """Prefilled prompts. Q prompts of width P.

    Attributes:
      hidden: [Q, D], the state that predicts each prompt's first response token.
      keys, values: [layers, Q, kv_heads, P, head_dim].
      positions, segments: int32[Q, P], as in `Cache`.
    """

    hidden: jax.Array
    keys: jax.Array
    values: jax.Array
    positions: jax.Array
    segments: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Slots:
    """What decodes. S slots; rows are numbered within the devices of their slot.

    Attributes:
      row: int32[S], the row in each slot; the number of rows where there is none.
      id: int32[S], the number that names its random key.
      time: int32[S], tokens that it has so far.
      prompt_length: int32[S].
      next: int32[devices], the first row that waits.
      hidden: [S, D], the state that predicts the next token.
      cache: keys and values, prompts in front, the ring behind.
    """

    row: jax.Array
    id: jax.Array
    time: jax.Array
    prompt_length: jax.Array
    next: jax.Array
    hidden: jax.Array
    cache: Cache


def prefill(model: LanguageModel, prompts: Int[Array, "Q P"], prompt_length: Int[Array, " Q"]) -> Pool:
    """All prompts at once; they are padded on the left."""
    count, width = prompts.shape
    columns = jnp.arange(width, dtype=jnp.int32)[None] - (width - prompt_length[:, None])
    positions, segments = jnp.maximum(columns, 0), (columns >= 0).astype(jnp.int32)
    cache = model.trunk.empty_cache(count, width)
    hidden, cache = model.trunk.extend(prompts, positions, segments, cache, fresh=True)
    return Pool(hidden[:, -1], cache.keys, cache.values, positions, segments)


def refill(slots: Slots, pool: Pool, ids: Int[Array, " N"], ended: Bool[Array, " S"], *, samples: int) -> Slots:
    """Gives each slot that ended the next row of the queue; what is here of slots, prompts and rows is one device's.

    A loop over the slots that take a row: each copies one prompt's keys and values in place.
    """
    rows, width = ids.shape[0], pool.positions.shape[1]
    rank = jnp.cumsum(ended) - 1
    taken = jnp.where(ended, jnp.minimum(slots.next[0] + rank, rows), rows).astype(jnp.int32)
    takes = taken < rows
    order = jnp.argsort(jnp.where(takes, rank, ended.shape[0]))  # slots that take a row go first
    row = jnp.where(ended, taken, slots.row)
    known = jnp.minimum(row, rows - 1)

    def take(carry: Any) -> Any:
        i, hidden, cache = carry
        slot = order[i]
        prompt = row[slot] // samples

        def put(into: Array, given: Array, axis: int = 0) -> Array:
            piece = jax.lax.dynamic_index_in_dim(given, prompt, axis)
            return jax.lax.dynamic_update_slice(into, piece, [slot if a == axis else 0 for a in range(into.ndim)])

        nothing = jnp.zeros((1, cache.segments.shape[1] - width), jnp.int32)
        cache = dataclasses.replace(
            cache,
            keys=put(cache.keys, pool.keys, 1),
            values=put(cache.values, pool.values, 1),
            positions=put(cache.positions, pool.positions),
            segments=jax.lax.dynamic_update_slice(put(cache.segments, pool.segments), nothing, (slot, width)),
        )
        return i + 1, put(hidden, pool.hidden), cache

    count = jnp.sum(takes)
    start = (jnp.zeros((), jnp.int32), slots.hidden, slots.cache)
    _, hidden, cache = jax.lax.while_loop(lambda carry: carry[0] < count, take, start)
    return Slots(
        row=row,
        id=ids[known],
        time=jnp.where(ended, 0, slots.time),
        prompt_length=pool.positions[known // samples, -1] + 1,
        next=jnp.minimum(slots.next + jnp.sum(ended, dtype=jnp.int32), rows),
        hidden=hidden,
        cache=cache,
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Log:
    """What each slot did in each step, `[steps, S]`.

    Attributes:
      place: int32, row × new_tokens + the token's number in it; the number of places where there was no row.
      tokens: int32.
      logprobs: float32.
      observed: bool, written by the environment.
    """

    place: jax.Array
    tokens: jax.Array
    logprobs: jax.Array
    observed: jax.Array


def collect(log: Log, *, rows: int, new_tokens: int) -> dict[str, Array]:
    """One device's log as rows, each `[N, W]`; `written` is True where a row has a token."""

    def rowwise(values: Array) -> Array:
        flat = jnp.zeros(rows * new_tokens, values.dtype)
        return flat.at[log.place.ravel()].set(values.ravel(), mode="drop").reshape(rows, new_tokens)

    written = rowwise(jnp.ones(log.place.shape, bool))
    return {n: rowwise(getattr(log, n)) for n in ("tokens", "logprobs", "observed")} | {"written": written}


def generate_in_slots(
    model: LanguageModel,
    prompts: Int[Array, "Q P"],
    prompt_length: Int[Array, " Q"],
    key: PRNGKeyArray,
    ids: Int[Array, " N"],
    *,
    slots: int,
    new_tokens: int,
    eos: Sequence[int],
    sampler: Sampler,
    tool: HostTool | None = None,
    mesh: Mesh | None = None,
) -> Trajectory:
    """Samples N = Q × samples responses, those to one prompt in consecutive rows (pure, meant for jit).

    Args:
      prompts: padded on the left, so that every prompt ends in the last column.
      ids: a number a row that names its random key: token t of a row uses `fold_in(fold_in(key, id), t)`.
      slots: rows that decode at once; a multiple of the devices along the batch.
      new_tokens: W, tokens of the longest response.
      eos: the ids that end a response; one of them is its last token.
      tool: an environment that may write into the responses; its tokens have log-probability 0 and are `observed`.
      mesh: over whose batch axes slots, prompts and rows are divided; each device has a queue of its own.
    """
    prompts, prompt_length, ids = (jnp.asarray(x) for x in (prompts, prompt_length, ids))
    count, width = prompts.shape
    total, devices = ids.shape[0], 1 if mesh is None else batch_devices(mesh)
    samples, rows, ring = total // count, total // devices, max(new_tokens - 1, 1)
    assert samples * count == total and count % devices == 0 and slots % devices == 0, (total, count, slots, devices)
    steps = -(-rows * devices // slots) * new_tokens  # after each W of them every slot has ended a row
    idle, nowhere = rows, rows * new_tokens

    pool = prefill(model, prompts, prompt_length)
    nothing = jnp.zeros(slots, jnp.int32)
    state = Slots(
        row=jnp.full(slots, idle, jnp.int32),
        id=nothing,
        time=nothing,
        prompt_length=nothing,
        next=jnp.zeros(devices, jnp.int32),
        hidden=jnp.zeros((slots, pool.hidden.shape[1]), pool.hidden.dtype),
        cache=model.trunk.empty_cache(slots, width + ring),
    )
    # A key-value array has its layers before its rows.
    cache_at = Cache(keys=1, values=1, positions=0, segments=0, index=None)  # type: ignore[arg-type]
    slots_at = Slots(row=0, id=0, time=0, prompt_length=0, next=0, hidden=0, cache=cache_at)  # type: ignore[arg-type]
    pool_at = Pool(hidden=0, keys=1, values=1, positions=0, segments=0)  # type: ignore[arg-type]
    fill = _on_each_device(functools.partial(refill, samples=samples), mesh, (slots_at, pool_at, 0, 0), slots_at)
    state = fill(state, pool, ids, jnp.ones(slots, bool))
    log = Log(
        place=jnp.full((steps, slots), nowhere, jnp.int32),
        tokens=jnp.zeros((steps, slots), jnp.int32),
        logprobs=jnp.zeros((steps, slots), jnp.float32),
        observed=jnp.zeros((steps, slots), bool),
    )
    reply = None if tool is None else Replies.none(slots, new_tokens, tool.reply_tokens)

    def unfinished(carry: Any) -> jax.Array:
        t, state, *_ = carry
        return (t < steps) & jnp.any(state.row < idle)

    def step(carry: Any) -> Any:
        t, state, log, reply = carry
        live = state.row < idle
        logits = constrain(model.logits(state.hidden), "batch", "vocab")
        keys = jax.vmap(lambda i, n: jax.random.fold_in(jax.random.fold_in(key, i), n))(state.id, state.time)
        token, logprob = sampler(keys, logits)
        own = live
        if reply is not None:
            own = live & (reply.left == 0)
            token = jnp.where(own, token, reply.waiting[:, 0])
        token = jnp.where(live, token, 0)
        ends = own & jnp.isin(token, jnp.asarray(eos, jnp.int32))
        ended = ends | (live & (state.time + 1 == new_tokens))
        log = jax.tree.map(
            lambda into, new: jax.lax.dynamic_update_slice(into, new[None].astype(into.dtype), (t, 0)),
            log,
            Log(
                place=jnp.where(live, state.row * new_tokens + state.time, nowhere),
                tokens=token,
                logprobs=jnp.where(own, logprob, 0.0),
                observed=live & ~own,
            ),
        )
        if reply is not None:
            assert tool is not None
            reply = reply.after(tool, mesh, token, state.time, own & ~ended, ended)
        cache = dataclasses.replace(state.cache, index=width + t % ring)
        position = state.prompt_length + state.time
        hidden, cache = model.trunk.extend(token[:, None], position[:, None], live.astype(jnp.int32)[:, None], cache)
        state = dataclasses.replace(state, time=state.time + live, hidden=hidden[:, 0], cache=cache)
        return t + 1, fill(state, pool, ids, ended), log, reply

    log = jax.lax.while_loop(unfinished, step, (jnp.zeros((), jnp.int32), state, log, reply))[2]
    log_at = Log(place=1, tokens=1, logprobs=1, observed=1)  # type: ignore[arg-type]
    columns = dict.fromkeys(("tokens", "logprobs", "observed", "written"), 0)
    gather = functools.partial(collect, rows=rows, new_tokens=new_tokens)
    found = _on_each_device(gather, mesh, (log_at,), columns)(log)
    ended = found["written"] & ~found["observed"] & jnp.isin(found["tokens"], jnp.asarray(eos, jnp.int32))

    def behind_prompt(x: Array) -> Array:
        return jnp.pad(x, ((0, 0), (width, 0)))

    return Trajectory(
        tokens=jnp.concatenate([jnp.repeat(prompts, samples, axis=0), found["tokens"]], axis=1),
        prompt_length=jnp.repeat(prompt_length, samples),
        response_length=jnp.sum(found["written"], axis=1, dtype=jnp.int32),
        finished=jnp.any(ended, axis=1),
        logprobs=behind_prompt(found["logprobs"]),
        prompt_width=width,
        observed=None if tool is None else behind_prompt(found["observed"]),
    )


def _on_each_device(function: Callable[..., Any], mesh: Mesh | None, inputs: Any, outputs: Any) -> Callable[..., Any]:
    """`function` on what each device along the batch holds: nothing in it crosses the mesh.

    `inputs` and `outputs` hold, for each array, the dimension that is divided (None: whole everywhere).
    """
    if mesh is None:
        return function
    batch = RULES["batch"]

    def spec(dimension: int | None) -> PartitionSpec:
        return PartitionSpec() if dimension is None else PartitionSpec(*([None] * dimension), batch)

    in_specs, out_specs = (
        jax.tree.map(spec, tree, is_leaf=lambda x: x is None or isinstance(x, int)) for tree in (inputs, outputs)
    )
    return jax.shard_map(
        function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, axis_names=set(batch), check_vma=False
    )
