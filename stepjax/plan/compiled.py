"""One program compiled for a topology: its memory in the compiler's layout, its work, and the time that it takes."""

import math
import re
import tempfile
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import jax

from stepjax.chips import REACHED, Topology
from stepjax.plan.cost import Cost, module_cost
from stepjax.plan.hlo_text import Module, parse
from stepjax.plan.surroundings import Planned, resident_bytes

USABLE = 0.97
"""Fraction of the HBM that a program may use; the rest is for the runtime."""

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True)
class ProgramPlan:
    """Of one program on one chip; bytes and FLOPs are those of one execution. None: not known.

    Attributes:
      runs: how often the whole run executes it.
      arguments, temporaries, outputs, aliased: HBM bytes as the compiler lays them out (outputs that take the place of
        arguments are `aliased`).
      beside: HBM bytes of the run's other arrays on the chip meanwhile; less than 0 where arguments share buffers.
      host_bytes_per_chip: bytes in the memory of the chip's host meanwhile: what `remat_policy=offload` puts there.
      collectives: by kind, how many and the bytes that a chip sends.
      seconds: the longest of the three times, at the assumed shares of the chip's figures.
      largest: bytes and name of the largest arguments and buffers.
      note: sizes that the program chose for itself.
      guessed_loops: loops that end by their data, taken to turn `turns` times.
      opaque_kernels: kernels whose FLOPs are not known, and are not counted.
      failure: why it has no plan.
      compile_seconds, compile_bytes: what planning took, and the most memory of the planning process.
    """

    name: str
    stage: str
    runs: int
    beside: float
    turns: int = 1
    note: str = ""
    hbm_bytes_per_chip: float | None = None
    arguments: float | None = None
    temporaries: float | None = None
    outputs: float | None = None
    aliased: float | None = None
    host_bytes_per_chip: float | None = None
    flops_per_chip: float = 0.0
    bytes_per_chip: float = 0.0
    collectives: dict[str, dict[str, float]] = field(default_factory=dict)
    seconds: float | None = None
    bound: str | None = None
    fits: bool | None = None
    largest: tuple[tuple[float, str], ...] = ()
    guessed_loops: int = 0
    opaque_kernels: int = 0
    failure: str | None = None
    compile_seconds: float = 0.0
    compile_bytes: float = 0.0

    def as_json(self) -> dict[str, Any]:
        largest = [{"bytes": size, "name": name} for size, name in self.largest]
        return asdict(self) | {"largest": largest}

    @classmethod
    def of_json(cls, value: dict[str, Any]) -> "ProgramPlan":
        return cls(**value | {"largest": tuple((b["bytes"], b["name"]) for b in value["largest"])})

    @property
    def network_bytes(self) -> float:
        return sum(c["bytes"] for c in self.collectives.values())


def plan_program(planned: Planned, topology: Topology) -> ProgramPlan:
    """Compiles a program; one that does not fit, or that the compiler refuses, has a plan that says so."""
    program, each = planned.program, topology.devices_per_chip
    plan = ProgramPlan(program.name, planned.stage, planned.runs, planned.beside * each, planned.turns, program.note)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        text = ""
        try:
            # Not kept: a pod's executables are large.
            compiled = program.lower().compile(compiler_options={"xla_dump_to": folder, "xla_dump_hlo_as_text": True})
            plan = with_memory(plan, compiled.memory_analysis(), topology)
            text = _text(compiled)
            del compiled
        except jax.errors.JaxRuntimeError as error:
            plan = refused(plan, str(error), each * resident_bytes(program.inputs), each)
        plan = replace(plan, compile_seconds=time.perf_counter() - start)
        text = text or _dumped(Path(folder))
    if not text:
        return plan
    module = parse(text)
    cost = module_cost(module, unknown_trips=planned.trips, in_turn=planned.in_turn)
    times = seconds_of(cost.times(each), topology)
    bound = max(times, key=lambda k: times[k])
    return replace(
        plan,
        flops_per_chip=cost.flops * each,
        bytes_per_chip=cost.bytes * each,
        collectives={k: {"count": c.count, "bytes": c.bytes * each} for k, c in cost.collectives.items()},
        seconds=times[bound] if plan.failure is None else None,
        bound=bound,
        largest=tuple((size * each, name) for size, name in largest_buffers(module)),
        guessed_loops=cost.guessed,
        opaque_kernels=cost.opaque,
    )


def with_memory(plan: ProgramPlan, memory: Any, topology: Topology) -> ProgramPlan:
    """The plan with the memory of chip and host as the compiler reports it."""
    names = ("argument", "temp", "output", "alias")
    arguments, temporaries, outputs, aliased = (
        topology.devices_per_chip * getattr(memory, f"{name}_size_in_bytes") for name in names
    )
    there = [topology.devices_per_chip * getattr(memory, f"host_{name}_size_in_bytes") for name in names]
    host = sum(there[:3]) - there[3]
    total = arguments + temporaries + outputs - aliased + plan.beside
    chip = topology.chip
    return replace(
        plan,
        hbm_bytes_per_chip=total,
        arguments=arguments,
        temporaries=temporaries,
        outputs=outputs,
        aliased=aliased,
        host_bytes_per_chip=host,
        fits=total <= USABLE * chip.hbm_bytes and host <= (chip.host_bytes or math.inf),
    )


def refused(plan: ProgramPlan, text: str, arguments: float, each: int) -> ProgramPlan:
    """The plan of a program that does not fit, by the compiler's message, or that it did not compile.

    `arguments`: their bytes on a chip; `each`: devices of a chip.
    """
    if "RESOURCE_EXHAUSTED" not in text:
        return replace(plan, failure=f"the compiler refused it: {' '.join(text.split())[:300]}")
    # Arguments are in this figure, whatever the message calls them.
    used = re.search(r"\(([\d.]+)([KMGT]?)\) exceeds available HBM|Used ([\d.]+)([KMGT]?) of [\d.]+[KMGT]? hbm", text)
    if used is None:
        return replace(plan, arguments=arguments, fits=False)
    number, unit = (used[1], used[2]) if used[1] else (used[3], used[4])
    total = each * float(number) * _UNITS[unit]
    return replace(
        plan,
        hbm_bytes_per_chip=total + plan.beside,
        arguments=arguments,
        temporaries=max(total - arguments, 0.0),
        fits=False,
    )


def _text(compiled: jax.stages.Compiled) -> str:
    """The optimised program; "" where JAX cannot read what libtpu, which may be newer, hands over."""
    try:
        return compiled.as_text() or ""
    except jax.errors.JaxRuntimeError:
        return ""


def _dumped(folder: Path) -> str:
    """The optimised program as the compiler itself wrote it; "" where there is none."""
    files = sorted(folder.glob("*.after_optimizations.txt"), key=lambda f: f.stat().st_size)
    return files[-1].read_text() if files else ""


def seconds_of(cost: Cost, topology: Topology) -> dict[str, float]:
    """Seconds for the FLOPs, the HBM traffic and the collectives of one chip."""
    chip = topology.chip
    return {
        "compute": cost.flops / (chip.flops * REACHED["compute"]),
        "memory": cost.bytes / (chip.hbm * REACHED["memory"]),
        "network": cost.network_bytes / (chip.network * REACHED["network"]),
    }


def largest_buffers(module: Module, count: int = 6) -> tuple[tuple[float, str], ...]:
    """The largest arguments and results of instructions, fusions' insides apart, by the operation that they are of."""
    inside = {
        name
        for c in module.computations.values()
        for i in c.instructions.values()
        if i.opcode == "fusion"
        for name in i.called("calls")
    }
    skipped = {"tuple", "get-tuple-element", "bitcast", "while", "conditional", "call", "opt-barrier"}
    found: dict[str, float] = {}
    for c in module.computations.values():
        for i in () if c.name in inside else c.instructions.values():
            if (
                i.opcode in skipped
                or i.opcode.endswith("-done")
                or (i.opcode == "parameter" and c.name != module.entry)
            ):
                continue
            operation = re.search(r'op_name="([^"]*)"', i.attributes)
            shape = ", ".join(f"{a.dtype}[{','.join(map(str, a.dims))}]" for a in i.arrays[:1])
            name = f"{operation[1] if operation else i.name} {shape}".replace("\\'", "'")
            found[name] = max(found.get(name, 0.0), i.bytes)
    return tuple((size, name) for name, size in sorted(found.items(), key=lambda x: -x[1])[:count])
