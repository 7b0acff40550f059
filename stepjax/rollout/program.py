"""The rollout program: the slot engine, compiled for given sizes."""

import math
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Int, PRNGKeyArray

from stepjax.errors import UserError
from stepjax.models import Definition, LanguageModel
from stepjax.models.blocks import PAIRS
from stepjax.models.definition import Params
from stepjax.parallel import batch_devices, batch_sharding, replicated
from stepjax.programs import Program, abstract
from stepjax.rollout.decoding import Decoding
from stepjax.rollout.engine import generate_in_slots
from stepjax.rollout.environment import HostTool
from stepjax.rollout.memory import BRANCHED, CacheLayout
from stepjax.rollout.record import Occupancy
from stepjax.rollout.sampling import Sampler
from stepjax.rollout.slots import Queue
from stepjax.rollout.stops import Stops
from stepjax.trajectory import Trajectory

GROWS_WITH = "max_new_tokens or the responses that decode at once (ppo.slots; outside of training `rows`)"
"""What the memory of a rollout's programs grows with."""

RESUMED_CHUNKS = 32
"""Into how many chunks the beginnings of rows are divided, where nothing else is asked for."""


@dataclass(frozen=True)
class RolloutShape:
    """Sizes that a rollout is compiled for.

    Attributes:
      rows: responses, at most.
      prompt_width: tokens of the widest prompt.
      new_tokens: tokens of the longest response, its end-of-text token included.
      samples: consecutive rows that have the same prompt; it is prefilled once for all of them.
      slots: responses that decode at once; 0: all of them.
      prefill_rows: prompts that are prefilled at once; 0: all of them.
      halvings: how often the slots are halved once no row waits; −1: what suits the devices and the cache.
      block: tokens of a block of the cache; 0: what suits the devices.
      cache_tokens: tokens that a device's blocks hold, at most; 0: what suits the lengths.
      held: tokens that a response and its prompt are expected to have, for `slots` 0 with `cache_tokens`: as many
        responses decode at once as then fit. 0: the most that they can have.
      branched: rows may begin within their prompts (`Queue.cut`); the cache then has no blocks.
      resumed: rows may begin with tokens of their response (`Queue.start`), which are prefilled behind their prompts.
      holds: rows may be held when they end (`Queue.hold`), and others begin behind them; of a resumed shape.
      turns: rows that are held go on behind themselves (`Row.cached`), for which there need not be blocks; of a shape
        with `holds`.
    """

    rows: int
    prompt_width: int
    new_tokens: int
    samples: int = 1
    slots: int = 0
    prefill_rows: int = 0
    halvings: int = -1
    block: int = 0
    cache_tokens: int = 0
    held: int = 0
    branched: bool = False
    resumed: bool = False
    holds: bool = False
    turns: bool = False

    def __post_init__(self) -> None:
        if (self.holds and not self.resumed) or (self.turns and not self.holds):
            raise ValueError("rows that are held are of a resumed shape, and those that go on are held")

    @property
    def of_turns(self) -> "RolloutShape":
        """With rows that go on when they have been answered."""
        return replace(self, resumed=True, holds=True, turns=True)

    @property
    def entry_width(self) -> int:
        """Tokens that are prefilled for a row, at most."""
        return self.prompt_width + (self.new_tokens - 1 if self.resumed else 0)

    @classmethod
    def of_many(cls, total: int, at_once: int, prompt_width: int, new_tokens: int, devices: int) -> "RolloutShape":
        """For `total` responses with prompts of their own, `at_once` of which decode together."""
        rows = -(-min(total, 4 * at_once) // devices) * devices
        return cls(rows, prompt_width, new_tokens, slots=at_once, prefill_rows=at_once)


@dataclass(frozen=True)
class DeviceSizes:
    """A `RolloutShape` on one of the devices along the batch: its rows, the places of its prompts, how many of these
    are prefilled at once, and its slots."""

    rows: int
    prompts: int
    chunk: int
    slots: int


def on_device(shape: RolloutShape, devices: int) -> DeviceSizes:
    """Numbers that are not divisible are rounded up. ValueError where the rows are not."""
    rows, rest = divmod(shape.rows, devices)
    if rest or not rows:
        raise ValueError(f"{shape.rows} rows cannot be divided among {devices} devices")
    # Rows that share a prompt may be divided at a device's first and last row.
    prompts = rows // shape.samples if rows % shape.samples == 0 else min(rows, rows // shape.samples + 2)
    at_once = shape.prefill_rows
    if shape.resumed and not shape.holds:
        # Each row may have a beginning of its own. Short and long ones are prefilled apart.
        prompts, at_once = rows, at_once or -(-shape.rows // RESUMED_CHUNKS)
    chunk = min(-(-at_once // devices) or prompts, prompts)
    slots = -(-shape.slots // devices) or rows
    if shape.cache_tokens and not shape.slots:
        slots = max(shape.cache_tokens // (shape.held or shape.prompt_width + shape.new_tokens), 1)
    slots = min(slots, rows)
    return DeviceSizes(rows, -(-prompts // chunk) * chunk, chunk, slots)


def cache_layout(shape: RolloutShape, mesh: Mesh) -> CacheLayout:
    """The cache of each device. UserError where it is too small for the prompts and one response."""
    each, platform = on_device(shape, batch_devices(mesh)), mesh.devices.flat[0].platform
    if shape.branched:
        return CacheLayout.ring(platform, shape.new_tokens)
    if shape.holds and not shape.turns:
        return CacheLayout.branching(
            platform,
            prompt_width=shape.prompt_width,
            new_tokens=shape.new_tokens,
            rows=each.rows,
            slots=each.slots,
            block=shape.block,
            tokens=shape.cache_tokens,
        )
    found = CacheLayout.choose(
        platform,
        prompt_width=shape.prompt_width,
        new_tokens=shape.new_tokens,
        prompts=-(-each.rows // shape.samples) if shape.resumed and not shape.turns else each.prompts,
        slots=each.slots,
        block=shape.block,
        tokens=shape.cache_tokens,
        spare=int(shape.turns),  # a row that goes on need not begin its blocks where those that it has end
    )
    if not (shape.resumed and found.page):
        return found
    # How many blocks the beginnings of rows take is not known before.
    blocks = found.blocks
    if shape.turns and not shape.cache_tokens:
        blocks += each.rows * -(-min(BRANCHED, shape.new_tokens) // found.page)
    return replace(found, blocks=max(blocks, shape.cache_tokens // found.page), ample=False)


def fitting(shape: RolloutShape, mesh: Mesh, *, turns: bool = False) -> RolloutShape:
    """The shape with as many rows as have prompts that the cache holds beside one response: a half, a quarter, … of
    them. UserError where it does not hold one prompt a device. `turns`: the rollout is `of_turns`."""
    devices = batch_devices(mesh)
    while True:
        try:
            cache_layout(shape.of_turns if turns else shape, mesh)
            return shape
        except UserError:
            if shape.rows <= devices:
                raise
        shape = replace(shape, rows=-(-shape.rows // (2 * devices)) * devices)


def rollout_program(
    definition: Definition[LanguageModel],
    mesh: Mesh,
    shape: RolloutShape,
    *,
    eos: int | tuple[int, ...],
    sampler: Sampler,
    tool: HostTool | None = None,
    stops: Stops | None = None,
    gather: bool = True,
    record: bool = False,
) -> Program:
    """`(params, prompts [Q, P], prompt_length [Q], key [], queue [N]) -> (Trajectory, Occupancy)`.

    A row's tokens depend on `key`, its number `queue.id`, its prompt and its limit only. Every device has the prompts
    of its own rows (`on_device` says how many), and `queue.prompt` counts from the device's first one. `gather`: the
    parameters are gathered over fsdp once, not at every step. `record`: where the sampler has filters, the trajectory
    holds what they kept.
    """
    each = on_device(shape, batch_devices(mesh))
    decoding = decoding_of(shape, mesh, eos=eos, sampler=sampler, tool=tool, stops=stops, record=record)

    def rollout(
        params: Params,
        prompts: Int[Array, "Q P"],
        prompt_length: Int[Array, " Q"],
        key: PRNGKeyArray,
        queue: Queue,
    ) -> tuple[Trajectory, Occupancy]:
        model = definition.bind(params)
        if gather:
            model = definition.bind(definition.gathered(params, model.trunk.config.dtype))
        return generate_in_slots(
            model,
            prompts,
            prompt_length,
            key,
            queue.id,
            decoding,
            prompt_of=queue.prompt,
            limits=queue.limit,
            cuts=queue.cut,
            mesh=mesh,
        )

    return Program(
        "rollout",
        rollout,
        mesh=mesh,
        inputs=abstract_inputs(definition, mesh, shape),
        out_shardings=(batch_sharding(mesh), replicated(mesh)),
        turns=max(decoding.steps(shape.rows), 1),
        nested=nested_turns(decoding, shape, each.slots),
        note=f"{each.slots} slots a device, {cache_layout(shape, mesh).told}",
        grows_with=GROWS_WITH,
    )


def decoding_of(
    shape: RolloutShape,
    mesh: Mesh,
    *,
    eos: int | tuple[int, ...],
    sampler: Sampler,
    tool: HostTool | None = None,
    stops: Stops | None = None,
    record: bool = False,
) -> Decoding:
    """How rows are decoded on all devices."""
    devices = batch_devices(mesh)
    each, layout = on_device(shape, devices), cache_layout(shape, mesh)
    return Decoding(
        new_tokens=shape.new_tokens,
        slots=each.slots * devices,
        eos=(eos,) if isinstance(eos, int) else eos,
        sampler=sampler,
        tool=tool,
        stops=stops,
        record=record,
        prefill_rows=each.chunk * devices,
        halvings=default_halvings(mesh, layout) if shape.halvings < 0 else shape.halvings,
        page=layout.page,
        blocks=layout.blocks,
        ample=layout.ample,
        growths=layout.growths,
        holds=shape.holds,
    )


def default_halvings(mesh: Mesh, layout: CacheLayout) -> int:
    """Where rows are long enough for blocks, a CPU has the last ones, alone for many steps, in one slot: a product with
    a single row takes half of the time that two take. Shorter ones do not make up for compiling that, and on other
    devices a step takes as long for few rows as for many."""
    return -1 if layout.page and mesh.devices.flat[0].platform == "cpu" else 1


def abstract_inputs(definition: Definition[LanguageModel], mesh: Mesh, shape: RolloutShape) -> tuple[Any, ...]:
    """Parameters, prompts, their lengths, key and queue."""
    devices, rows = batch_devices(mesh), batch_sharding(mesh)

    def ints(*dims: int, dtype: Any = jnp.int32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(dims, dtype, sharding=rows)

    prompts, each_row = on_device(shape, devices).prompts * devices, ints(shape.rows)
    branched, resumed = (each_row if asked else None for asked in (shape.branched, shape.resumed))
    queue: Any = Queue(each_row, each_row, each_row, branched, resumed)  # type: ignore[arg-type]
    if shape.turns:
        queue = replace(queue, hold=each_row, given=each_row)
    elif shape.holds:
        queue = replace(queue, steps=each_row, hold=each_row, greedy=ints(shape.rows, dtype=bool))
    return (
        abstract(definition.shapes, definition.shardings(mesh)),
        ints(prompts, shape.entry_width),
        ints(prompts),
        abstract(jax.eval_shape(lambda: jax.random.key(0)), replicated(mesh)),
        queue,
    )


def nested_turns(decoding: Decoding, shape: RolloutShape, slots: int) -> tuple[int, ...]:
    """Turns of the decode loop, mean steps of each, and how often a layer takes pairs of rows and blocks in a step,
    where every response has the most tokens."""
    steps = max(decoding.steps(shape.rows), 1)
    turns = -(-steps // decoding.turn(shape.rows))
    shared = (shape.prompt_width - 1) // decoding.page if decoding.page else 0
    pairs = slots * (shared + decoding.own_blocks / 2)
    return turns, -(-steps // turns), math.ceil(pairs / PAIRS)
