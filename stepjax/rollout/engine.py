"""The slot engine: a fixed number of rows decode together, and a finished one is replaced by the next at once.

Lengths of reasoning are heavy-tailed: a batch that waits for its slowest row spends most of its time on rows that ended
long ago. Here prompts are prefilled first, each once for all of its samples, into a pool. Then one loop decodes
`slots` rows; the slot of a row that ends takes the next row of the queue in the same step, so that a response of n
tokens holds a slot for exactly n steps. When the queue is empty and half of the slots are, the others go on in as many
slots as are left, and so on. All of this stays on the device.

All slots write their next key and value in the same column, which goes round in a ring behind the prompts' columns: a
response never outlives a turn of the ring, and entries of earlier rows have segment 0. So a step
writes one slice, whenever its rows began.
"""

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Int, PRNGKeyArray

from stepjax.kept import Kept
from stepjax.models import LanguageModel
from stepjax.models.cache import KeyValues
from stepjax.parallel import batch_devices, constrain, on_each_device
from stepjax.rollout.axes import QUEUE_AXES
from stepjax.rollout.blocks import Layers
from stepjax.rollout.decode_loop import DecodeLoop
from stepjax.rollout.decoding import Decoding
from stepjax.rollout.prefill import prefill
from stepjax.rollout.record import Occupancy
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
    cuts: Int[Array, " N"] | None = None,
    mesh: Mesh | None = None,
) -> tuple[Trajectory, Occupancy]:
    """Samples N responses (pure and meant for jit, except for the calls of a tool).

    Args:
      prompts: padded on the left, so that every prompt ends in the last column; length 0: none.
      ids: the number of each row's random key: token t of a row uses `fold_in(fold_in(key, id), t)`.
      prompt_of: the prompt of each row; None: N / Q consecutive rows share one.
      limits: tokens of each response at most; None: W. Rows with limit 0 are left empty at no cost; they come
        after the others.
      cuts: tokens at the end of its prompt that each row does without, in a cache without blocks: rows that begin at
        many places of one text share its keys and values. The trajectory's prompts are whole all the same.
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
    queue = Queue(jnp.asarray(prompt_of) % (count // devices), ids, limits, cuts)
    layers = empty_blocks(model, d.blocks * devices, d.page) if d.page else None
    assert cuts is None or layers is None
    prefilled, layers = prefill(
        model,
        prompts,
        prompt_length,
        devices=devices,
        chunk=chunk,
        layers=layers,
        page=d.page,
        mesh=mesh,
        branched=cuts is not None,
    )
    record, occupancy = DecodeLoop(model, d, key, queue, prefilled, devices=devices, mesh=mesh).run(layers)
    found, form = record.rows(), d.kept_form(model.trunk.config.vocab)

    def behind_prompt(x: Array) -> Array:
        return jnp.pad(x, ((0, 0), (width, 0), *[(0, 0)] * (x.ndim - 2)))

    own_prompt = on_each_device(lambda x, q: x[q.prompt], mesh, (0, QUEUE_AXES), 0)
    trajectory = Trajectory(
        tokens=jnp.concatenate([own_prompt(prompts, queue), found.tokens], axis=1),
        prompt_length=own_prompt(prompt_length, queue),
        response_length=found.length,
        finished=found.finished,
        logprobs=behind_prompt(found.logprobs),
        prompt_width=width,
        env_tokens=None if found.env_tokens is None else behind_prompt(found.env_tokens),
        kept=None if found.kept is None or form is None else Kept(behind_prompt(found.kept), form),
    )
    return trajectory, occupancy


def empty_blocks(model: LanguageModel, blocks: int, page: int) -> Layers:
    """Blocks for all devices, divided over them; the heads over their tensor axis."""

    def one(x: KeyValues) -> KeyValues:
        layers = (None,) * (x.keys.ndim - 4)
        return jax.tree.map(lambda a: constrain(a, *layers, "batch", "kv_heads"), x)

    made = model.trunk.empty_blocks(blocks, page)
    return one(made) if isinstance(made, KeyValues) else tuple(one(x) for x in made)
