"""The slot engine: a fixed number of rows decode together, and a finished one is replaced by the next at once.

Lengths of reasoning are heavy-tailed: a batch that waits for its slowest row spends most of its time on rows that ended
long ago. Here prompts are prefilled first, each once for all of its samples, into a pool. Then one loop decodes
`slots` rows; the slot of a row that ends takes the next row of the queue in the same step, so that a response of n
tokens holds a slot for exactly n steps. When the queue is empty and half of the slots are, the others go on in half as
many slots, and so on. All of this stays on the device.

All slots write their next key and value in the same column, which goes round in a ring behind the prompts' columns: a
response never outlives a turn of the ring, and entries of earlier rows have segment 0. So a step
writes one slice, whenever its rows began.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Int, PRNGKeyArray

from stepjax.models import LanguageModel
from stepjax.models.cache import Cache, grown
from stepjax.parallel import RULES, batch_devices, constrain
from stepjax.rollout.environment import HostTool, Replies
from stepjax.rollout.noise import fold_in
from stepjax.rollout.prefill import prefill
from stepjax.rollout.record import Log, Occupancy, collect
from stepjax.rollout.sampling import Sampler
from stepjax.rollout.slots import Pool, Queue, Slots, refill, retire, shrunk, wanted
from stepjax.rollout.stops import Stops
from stepjax.trajectory import Trajectory


@dataclasses.dataclass(frozen=True)
class Decoding:
    """How rows are decoded; fixed when the program is compiled.

    Attributes:
      new_tokens: W, tokens of the longest response.
      slots: rows that decode at once; a multiple of the devices along the batch.
      eos: the ids that end a response; one of them is its last token.
      sampler: how a token is sampled.
      tool: an environment that may write into the responses; its tokens have log-probability 0 and are `env_tokens`.
      stops: what else ends a response.
      prefill_rows: prompts that are prefilled at once; 0: all.
      halvings: how often the slots may be halved when the queue is empty. Each makes compiling take longer.
      fewest: slots per device up to which they are not halved; larger numbers are, down to two.
      growths: how often the cache is doubled until it fits the longest response, so that earlier steps read a smaller
        cache. Each makes compiling take longer.
    """

    new_tokens: int
    slots: int
    eos: tuple[int, ...]
    sampler: Sampler
    tool: HostTool | None = None
    stops: Stops | None = None
    prefill_rows: int = 0
    halvings: int = 1
    fewest: int = 8
    growths: int = 0

    def sizes(self, devices: int) -> list[int]:
        """The number of slots, and the numbers that it is halved to."""
        found = [self.slots // devices]
        for _ in range(self.halvings):
            if found[-1] > (self.fewest if len(found) == 1 else 2):
                found.append(-(-found[-1] // 2))
        return [size * devices for size in found]

    def rings(self) -> list[int]:
        """Numbers of columns behind the prompts: the first one, and those that it is doubled to."""
        whole = max(self.new_tokens - 1, 1)
        return sorted({-(-whole >> (self.growths - i)) if i < self.growths else whole for i in range(self.growths + 1)})

    def steps(self, rows: int) -> int:
        """The steps that `rows` rows take at most: after each W of them every slot has ended a row."""
        return -(-rows // self.slots) * self.new_tokens


def generate_in_slots(
    model: LanguageModel,
    prompts: Int[Array, "Q P"],
    prompt_length: Int[Array, " Q"],
    key: PRNGKeyArray,
    ids: Int[Array, " N"],
    decoding: Decoding,
    *,
    prompt_of: Int[Array, " N"] | None = None,
    limits: Int[Array, " N"] | None = None,
    mesh: Mesh | None = None,
) -> tuple[Trajectory, Occupancy]:
    """Samples N responses (pure and meant for jit, except for the calls of a tool).

    Args:
      prompts: padded on the left, so that every prompt ends in the last column; length 0: none.
      ids: the number of each row's random key: token t of a row uses `fold_in(fold_in(key, id), t)`.
      prompt_of: the prompt of each row; None: N / Q consecutive rows share one.
      limits: tokens of each response at most; None: W. Rows with limit 0 are left empty at no cost; they come
        after the others.
      mesh: over whose batch axes slots, prompts and rows are divided; each device has a queue of its own, and the
        prompts of its rows.
    """
    d = decoding
    prompts, prompt_length, ids = (jnp.asarray(x) for x in (prompts, prompt_length, ids))
    count, width = prompts.shape
    total, devices = ids.shape[0], 1 if mesh is None else batch_devices(mesh)
    if prompt_of is None:
        prompt_of = jnp.arange(total, dtype=jnp.int32) // (total // count)
    if limits is None:
        limits = jnp.full(total, d.new_tokens, jnp.int32)
    chunk = d.prefill_rows or count
    assert not any(n % devices for n in (count, total, d.slots, chunk)) and count % chunk == 0, (total, count, d.slots)
    rows, rings = total // devices, d.rings()
    ring = rings[-1]
    idle, nowhere = rows, rows * d.new_tokens
    limits = jnp.minimum(limits, d.new_tokens)
    queue = Queue(jnp.asarray(prompt_of) % (count // devices), ids, limits)
    pool = prefill(model, prompts, prompt_length, devices=devices, chunk=chunk)
    state = _empty_slots(model, d.slots, width + rings[0], devices, idle=idle)
    slots_at, pool_at = _row_axes(state, 0), _row_axes(pool, 1)
    queue_at = Queue(0, 0, 0)  # type: ignore[arg-type]
    fill = _on_each_device(refill, mesh, (slots_at, pool_at, queue_at, 0), slots_at)
    waiting_on = _on_each_device(lambda s, q: s.next < wanted(q), mesh, (slots_at, queue_at), 0)
    state = fill(state, pool, queue, jnp.ones(d.slots, bool))
    weights = model.trunk.split_weights()
    reply = None if d.tool is None else Replies.none(d.slots, d.new_tokens, d.tool.reply_tokens)

    def step(t: Array, state: Slots, reply: Replies | None, waits: bool) -> tuple[Slots, Replies | None, Log]:
        live = state.row < idle
        logits = constrain(model.logits(state.hidden), "batch", "vocab")
        keys = fold_in(fold_in(key, state.id), state.time)
        token, logprob = d.sampler(keys, logits, time=state.time, eos=d.eos)
        own = live
        if reply is not None:
            own = live & (reply.left == 0)
            token = jnp.where(own, token, reply.waiting[:, 0])
        token = jnp.where(live, token, 0)
        stopped = own & jnp.isin(token, jnp.asarray(d.eos, jnp.int32))
        automaton = state.stop
        if d.stops is not None:
            automaton, hit = d.stops.advance(state.stop, token)
            stopped |= own & hit
        ended = stopped | (live & (state.time + 1 >= state.limit))
        line = Log(
            place=jnp.where(live, state.row * d.new_tokens + state.time, nowhere),
            tokens=token,
            logprobs=jnp.where(own, logprob, 0.0),
            env_tokens=live & ~own,
            stopped=stopped,
        )
        if reply is not None:
            assert d.tool is not None
            reply = reply.after(d.tool, mesh, token, state.time, own & ~ended, ended)
        cache = dataclasses.replace(state.cache, index=width + t % ring)
        position = state.prompt_length + state.time
        hidden, cache = model.trunk.extend(
            token[:, None], position[:, None], live.astype(jnp.int32)[:, None], cache, weights=weights
        )
        state = dataclasses.replace(state, time=state.time + live, stop=automaton, hidden=hidden[:, 0], cache=cache)
        state = fill(state, pool, queue, ended) if waits else retire(state, ended, idle=idle)
        return state, reply, line

    sizes, logs = d.sizes(devices), []
    t, occupancy = jnp.zeros((), jnp.int32), Occupancy.none()
    for number, size in enumerate(sizes):
        least = sizes[number + 1] if number + 1 < len(sizes) else 0
        if number:
            give_up = functools.partial(shrunk, size=size // devices, idle=idle)
            state, kept = _on_each_device(give_up, mesh, (slots_at,), (slots_at, 0))(state)
            if reply is not None:
                take = _on_each_device(lambda r, k: jax.tree.map(lambda x: x[k], r), mesh, (0, 0), 0)
                reply = take(reply, kept)
        # Slots are halved when no row waits any more; and none does from the start where each has a slot.
        first, waits = t, number == 0 and total > d.slots

        def unfinished(carry: Any, least: int = least) -> Array:
            t, state, *_ = carry
            live = jnp.sum((state.row < idle).reshape(devices, -1), axis=1)
            goes_on = jnp.any(live > least // devices) | jnp.any(waiting_on(state, queue))
            columns = state.cache.segments.shape[1] - width
            return goes_on if columns == ring else goes_on & (t < columns)

        def turn(carry: Any, first: Array = first, waits: bool = waits) -> Any:
            t, state, log, reply, occupancy = carry
            occupancy = occupancy.after(state.row < idle, jnp.any(waiting_on(state, queue)))
            state, reply, line = step(t, state, reply, waits)
            return t + 1, state, log.write(t - first, line), reply, occupancy

        log = Log.empty(d.new_tokens if number else d.steps(total), size, nowhere)
        carry = t, state, log, reply, occupancy
        for columns in rings if number == 0 else [ring]:
            carry = (carry[0], dataclasses.replace(carry[1], cache=grown(carry[1].cache, width + columns)), *carry[2:])
            carry = jax.lax.while_loop(unfinished, turn, carry)
        t, state, log, reply, occupancy = carry
        logs.append(log)
    found = _gather(tuple(logs), mesh, rows=rows, new_tokens=d.new_tokens)

    def behind_prompt(x: Array) -> Array:
        return jnp.pad(x, ((0, 0), (width, 0)))

    own_prompt = _on_each_device(lambda x, q: x[q.prompt], mesh, (0, queue_at), 0)
    trajectory = Trajectory(
        tokens=jnp.concatenate([own_prompt(prompts, queue), found["tokens"]], axis=1),
        prompt_length=own_prompt(prompt_length, queue),
        response_length=jnp.sum(found["written"], axis=1, dtype=jnp.int32),
        finished=jnp.any(found["stopped"], axis=1),
        logprobs=behind_prompt(found["logprobs"]),
        prompt_width=width,
        env_tokens=None if d.tool is None else behind_prompt(found["env_tokens"]),
    )
    return trajectory, occupancy


def _empty_slots(model: LanguageModel, slots: int, columns: int, devices: int, *, idle: int) -> Slots:
    nothing = jnp.zeros(slots, jnp.int32)
    config = model.trunk.config
    return Slots(
        row=jnp.full(slots, idle, jnp.int32),
        id=nothing,
        limit=nothing,
        time=nothing,
        prompt_length=nothing,
        stop=nothing,
        next=jnp.zeros(devices, jnp.int32),
        hidden=jnp.zeros((slots, config.width), config.dtype),
        cache=model.trunk.empty_cache(slots, columns),
    )


def _row_axes(tree: Any, leading: int) -> Any:
    """Which dimension of slots or of a pool holds the rows; None where there is none."""
    inner = leading + (0 if isinstance(tree.layers if isinstance(tree, Pool) else tree.cache.layers, tuple) else 1)
    if isinstance(tree, Pool):
        layers = jax.tree.map(lambda _: inner, tree.layers)
        return Pool(hidden=leading, layers=layers, positions=leading, segments=leading)  # type: ignore[arg-type]
    layers = jax.tree.map(lambda _: inner, tree.cache.layers)
    cache = Cache(layers=layers, positions=leading, segments=leading, index=None)  # type: ignore[arg-type]
    axes: dict[str, Any] = {f.name: leading for f in dataclasses.fields(tree)} | {"cache": cache}
    return Slots(**axes)


def _gather(logs: tuple[Log, ...], mesh: Mesh | None, *, rows: int, new_tokens: int) -> dict[str, Array]:
    names = ["written", "env_tokens", "stopped", "tokens", "logprobs"]
    given = jax.tree.map(lambda _: 1, logs)
    gather = functools.partial(collect, rows=rows, new_tokens=new_tokens)
    return _on_each_device(gather, mesh, (given,), dict.fromkeys(names, 0))(logs)


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
