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

import functools

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Int, PRNGKeyArray

from stepjax.kept import Kept
from stepjax.models import LanguageModel
from stepjax.parallel import batch_devices
from stepjax.rollout.by_device import on_each_device
from stepjax.rollout.decode_loop import DecodeLoop
from stepjax.rollout.decoding import Decoding
from stepjax.rollout.prefill import prefill
from stepjax.rollout.record import Log, Occupancy, collect
from stepjax.rollout.slots import Queue
from stepjax.trajectory import Trajectory


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
    limits = jnp.minimum(limits, d.new_tokens)
    queue = Queue(jnp.asarray(prompt_of) % (count // devices), ids, limits)
    pool = prefill(model, prompts, prompt_length, devices=devices, chunk=chunk)
    form = d.kept_form(model.trunk.config.vocab)
    logs, occupancy = DecodeLoop(model, d, key, queue, pool, devices=devices, mesh=mesh).run()
    found = _gather(logs, mesh, rows=total // devices, new_tokens=d.new_tokens)

    def behind_prompt(x: Array) -> Array:
        return jnp.pad(x, ((0, 0), (width, 0), *[(0, 0)] * (x.ndim - 2)))

    queue_at = Queue(0, 0, 0)  # type: ignore[arg-type]
    own_prompt = on_each_device(lambda x, q: x[q.prompt], mesh, (0, queue_at), 0)
    trajectory = Trajectory(
        tokens=jnp.concatenate([own_prompt(prompts, queue), found["tokens"]], axis=1),
        prompt_length=own_prompt(prompt_length, queue),
        response_length=jnp.sum(found["written"], axis=1, dtype=jnp.int32),
        finished=jnp.any(found["stopped"], axis=1),
        logprobs=behind_prompt(found["logprobs"]),
        prompt_width=width,
        env_tokens=None if d.tool is None else behind_prompt(found["env_tokens"]),
        kept=None if form is None else Kept(behind_prompt(found["kept"]), form),
    )
    return trajectory, occupancy


def _gather(logs: tuple[Log, ...], mesh: Mesh | None, *, rows: int, new_tokens: int) -> dict[str, Array]:
    names = ["written", "env_tokens", "stopped", "tokens", "logprobs"] + ["kept"] * (logs[0].kept is not None)
    given = jax.tree.map(lambda _: 1, logs)
    gather = functools.partial(collect, rows=rows, new_tokens=new_tokens)
    return on_each_device(gather, mesh, (given,), dict.fromkeys(names, 0))(logs)
