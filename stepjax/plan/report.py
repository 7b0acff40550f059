"""The plan of a run: every program's memory, work and time on a topology, and the verdict."""

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from stepjax.config import Config
from stepjax.errors import UserError
from stepjax.parallel import make_mesh
from stepjax.plan.chips import Topology
from stepjax.plan.cost import Cost, module_cost
from stepjax.plan.hlo_text import parse
from stepjax.plan.surroundings import Planned, planned_programs, planned_run

REACHED = {"compute": 0.6, "memory": 0.8, "network": 0.7}
"""Which share of a chip's public figures a program is assumed to reach."""

USABLE = 0.97
"""Share of the HBM that a program may take; the rest is the runtime's own."""

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True)
class ProgramPlan:
    """Of one program on one chip; bytes and FLOPs are those of one execution.

    Attributes:
      arguments, temporaries, outputs, aliased: HBM bytes as the compiler lays them out (outputs that take the place of
        arguments are `aliased`); None where it found no room and gave up.
      beside: HBM bytes of what the run keeps on the chip meanwhile.
      seconds: the longest of the three times, at the assumed shares of the chip's figures.
      largest: the largest buffers, bytes and name.
    """

    name: str
    stage: str
    runs: int
    hbm_bytes_per_chip: float
    arguments: float | None
    temporaries: float | None
    outputs: float | None
    aliased: float | None
    beside: float
    flops_per_chip: float
    bytes_per_chip: float
    collectives: dict[str, dict[str, float]]
    seconds: float | None
    bound: str
    fits: bool
    largest: tuple[tuple[float, str], ...] = ()
    guessed_loops: int = 0


@dataclass(frozen=True)
class Plan:
    topology: str
    mesh: dict[str, int]
    chips: int
    hbm: float
    fits: bool
    programs: tuple[ProgramPlan, ...]
    tokens_per_second: float | None
    chip_hours: float | None
    assumptions: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def make_plan(config: Config, topology: Topology, sizes: Sequence[int], only: Sequence[str] = ()) -> Plan:
    """Compiles the programs of the config's stages (those named in `only`, if any) on a mesh `(data, fsdp, tensor)`.

    UserError where the mesh does not take all devices of the topology, or the config does not fit the mesh.
    """
    data, fsdp, tensor = sizes
    mesh = make_mesh(data, fsdp, tensor, devices=topology.devices)
    if mesh.size != len(topology.devices):
        raise UserError(f"--mesh: it takes {mesh.size} of the {len(topology.devices)} devices of {topology.name}")
    planned = planned_programs(planned_run(config, mesh))
    if only and (unknown := set(only) - {p.program.name for p in planned}):
        names = ", ".join(p.program.name for p in planned)
        raise UserError(f"--programs: no program {sorted(unknown)[0]!r} in this run; there are {names}")
    programs = tuple(_plan_one(p, topology) for p in planned if not only or p.program.name in only)
    fits = all(p.fits for p in programs)
    times = [None if p.seconds is None else p.seconds * p.runs for p in programs]
    whole = None if only or None in times else sum(t for t in times if t is not None)
    rounds = [p.seconds for p in programs if p.stage == "ppo"]
    tokens = config.ppo.prompts * config.ppo.samples * config.ppo.max_new_tokens
    known = bool(rounds) and None not in rounds and not only
    return Plan(
        topology=topology.name,
        mesh={str(axis): size for axis, size in mesh.shape.items()},
        chips=topology.chips,
        hbm=topology.chip.hbm_bytes,
        fits=fits,
        programs=programs,
        tokens_per_second=tokens / sum(r for r in rounds if r is not None) if known else None,
        chip_hours=None if whole is None else whole * topology.chips / 3600,
        assumptions=_assumptions(topology, config),
    )


def _assumptions(topology: Topology, config: Config) -> tuple[str, ...]:
    chip = topology.chip
    return (
        f"a chip reaches {REACHED['compute']:.0%} of {chip.flops / 1e12:g} TFLOP/s (bfloat16), "
        f"{REACHED['memory']:.0%} of {chip.hbm / 1e9:g} GB/s (HBM), {REACHED['network']:.0%} of "
        f"{chip.network / 1e9:g} GB/s (all links, sending)",
        "a program takes the longest of its three times; the host and the input of data take none",
        f"every response is {config.ppo.max_new_tokens} tokens long",
        f"a program may take {USABLE:.0%} of {chip.hbm_bytes / 2**30:g} GiB HBM",
    )


def _plan_one(planned: Planned, topology: Topology) -> ProgramPlan:
    program, each = planned.program, topology.devices_per_chip
    beside = resident_bytes(planned.beside) * each
    try:
        compiled = program.lower().compile()  # not kept: a pod's executables are large
    except jax.errors.JaxRuntimeError as error:
        return _out_of_memory(planned, beside, str(error), each)
    memory: Any = compiled.memory_analysis()
    text = compiled.as_text() or ""
    del compiled
    module = parse(text)
    cost = module_cost(module, unknown_trips=planned.turns)
    arguments, temporaries, outputs, aliased = (
        each * x
        for x in (
            memory.argument_size_in_bytes,
            memory.temp_size_in_bytes,
            memory.output_size_in_bytes,
            memory.alias_size_in_bytes,
        )
    )
    total = arguments + temporaries + outputs - aliased + beside
    times = seconds_of(cost.times(each), topology)
    bound = max(times, key=lambda k: times[k])
    return ProgramPlan(
        name=program.name,
        stage=planned.stage,
        runs=planned.runs,
        hbm_bytes_per_chip=total,
        arguments=arguments,
        temporaries=temporaries,
        outputs=outputs,
        aliased=aliased,
        beside=beside,
        flops_per_chip=cost.flops * each,
        bytes_per_chip=cost.bytes * each,
        collectives={k: {"count": c.count, "bytes": c.bytes * each} for k, c in cost.collectives.items()},
        seconds=times[bound],
        bound=bound,
        fits=total <= USABLE * topology.chip.hbm_bytes,
        largest=_largest(module),
        guessed_loops=cost.guessed,
    )


def seconds_of(cost: Cost, topology: Topology) -> dict[str, float]:
    """Seconds for the FLOPs, the HBM traffic and the collectives of one chip."""
    chip = topology.chip
    return {
        "compute": cost.flops / (chip.flops * REACHED["compute"]),
        "memory": cost.bytes / (chip.hbm * REACHED["memory"]),
        "network": cost.network_bytes / (chip.network * REACHED["network"]),
    }


def resident_bytes(tree: Any) -> float:
    """Bytes on one device of abstract arrays with shardings."""
    total = 0.0
    for leaf in jax.tree.leaves(tree):
        shape = leaf.sharding.shard_shape(leaf.shape)
        total += float(np.prod(shape)) * leaf.dtype.itemsize
    return total


def _largest(module: Any, count: int = 5) -> tuple[tuple[float, str], ...]:
    """The largest buffers that instructions produce, outside of fusions, by the operation that they came from."""
    inside = {
        name
        for c in module.computations.values()
        for i in c.instructions.values()
        if i.opcode == "fusion"
        for name in i.called("calls")
    }
    skipped = {"parameter", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call", "opt-barrier"}
    found: dict[str, float] = {}
    for c in module.computations.values():
        for i in () if c.name in inside else c.instructions.values():
            if i.opcode not in skipped and not i.opcode.endswith("-done"):
                operation = re.search(r'op_name="([^"]*)"', i.attributes)
                shape = ", ".join(f"{a.dtype}[{','.join(map(str, a.dims))}]" for a in i.arrays[:1])
                name = f"{operation[1] if operation else i.name} {shape}"
                found[name] = max(found.get(name, 0.0), i.bytes)
    return tuple((size, name) for name, size in sorted(found.items(), key=lambda x: -x[1])[:count])


def _out_of_memory(planned: Planned, beside: float, text: str, each: int) -> ProgramPlan:
    """The plan of a program that the compiler found no room for, from its message; other errors are raised again."""
    used = re.search(r"Used ([\d.]+)([KMGT]?) of [\d.]+[KMGT]? hbm", text)
    if "RESOURCE_EXHAUSTED" not in text and used is None:
        raise UserError(f"{planned.program.name} does not compile for this topology: {' '.join(text.split())[:300]}")
    total = each * float(used[1]) * _UNITS[used[2]] if used else float("inf")
    blocks = re.findall(r"Size: ([\d.]+)([KMGT]?).*?Shape: (\S+)", text, re.S)
    names = re.findall(r'op_name="([^"]*)"', text)
    largest = tuple(
        (float(size) * _UNITS[unit], f"{names[i] if i < len(names) else ''} {shape}".strip())
        for i, (size, unit, shape) in enumerate(blocks[:5])
    )
    return ProgramPlan(
        name=planned.program.name,
        stage=planned.stage,
        runs=planned.runs,
        hbm_bytes_per_chip=total + beside,
        arguments=None,
        temporaries=None,
        outputs=None,
        aliased=None,
        beside=beside,
        flops_per_chip=0.0,
        bytes_per_chip=0.0,
        collectives={},
        seconds=None,
        bound="memory",
        fits=False,
        largest=largest,
    )
