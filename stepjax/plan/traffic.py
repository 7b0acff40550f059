"""HBM bytes of compiled instructions: slices and updates in place count only what they touch, not the whole array."""

import functools
from collections.abc import Callable

from stepjax.plan.hlo_text import Computation, Instruction, Module

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute", "ragged-all-to-all")


def fusion_bytes(module: Module, outer: Computation, i: Instruction) -> float:
    """HBM bytes of a fusion: the parts of its operands that it reads, and of its result that it writes.

    Without those of the collectives inside: one that runs in the background is in several fusions, whose results hold
    its arrays as they are.
    """
    called = i.called("calls")
    if not called:
        return plain_bytes(outer, i)
    total = 0.0
    for name, inside, inner in _parameters(module, i):
        source = outer.instructions.get(name)
        if source is None or not source.bytes:
            continue
        touched = source.bytes if inside is None else _touched(module, inner, inside.name, source.bytes)
        total += min(touched, source.bytes)
    inner = module.computations[called[0]]
    return total + min(i.bytes, _written(module, inner, inner.root, i.bytes))


def _parameters(module: Module, i: Instruction) -> list[tuple[str, Instruction | None, Computation]]:
    """A fusion's operands, each with the parameter that it is inside."""
    inner = module.computations[i.called("calls")[0]]
    parameters = {p.raw_operands.strip(): p for p in inner.instructions.values() if p.opcode == "parameter"}
    return [(operand, parameters.get(str(number)), inner) for number, operand in enumerate(i.operands)]


def _touched(
    module: Module, inner: Computation, name: str, whole: float, beyond: Callable[[], float] | None = None
) -> float:
    """How many bytes of a fusion's parameter are read: those of its slices where nothing else reads it.

    `beyond`: of a fusion inside another, how many are read by those who read its result.
    """
    total = 0.0
    if inner.root.name == name:
        total += whole if beyond is None else beyond()
    for user in inner.users(name):
        if user.opcode == "bitcast":
            total += _touched(module, inner, user.name, whole, beyond)
        elif user.opcode == "fusion" and user.called("calls"):
            onward = functools.partial(_touched, module, inner, user.name, whole, beyond)
            for operand, inside, within in _parameters(module, user):
                if operand == name:
                    total += whole if inside is None else _touched(module, within, inside.name, whole, onward)
        elif user.opcode in ("dynamic-slice", "gather", "slice"):
            total += sum(a.bytes for a in user.arrays)
        elif user.opcode == "dynamic-update-slice" and user.operands[0] == name:
            continue  # written in place
        elif user.opcode.removesuffix("-start") in COLLECTIVES:
            continue  # counted for itself
        elif user.opcode == "tuple" and user is inner.root:  # handed on as it is
            total += 0.0 if beyond is None else beyond()
        else:
            return whole
    return total


def _written(module: Module, inner: Computation, root: Instruction, whole: float) -> float:
    """How many bytes of its result a fusion writes: the updated slice where the rest stays in place."""
    if root.opcode == "bitcast" and root.operands:
        return _written(module, inner, inner.instructions[root.operands[0]], whole)
    if root.opcode == "parameter" or root.opcode.removesuffix("-start") in COLLECTIVES:
        return 0.0
    if root.opcode == "tuple":
        parts = [inner.instructions[o] for o in root.operands]
        return sum(_written(module, inner, p, sum(a.bytes for a in p.arrays)) for p in parts)
    if root.opcode == "fusion" and root.called("calls"):
        within = module.computations[root.called("calls")[0]]
        return _written(module, within, within.root, whole)
    if root.opcode == "dynamic-update-slice":
        return sum(a.bytes for a in inner.instructions[root.operands[1]].arrays)
    return whole


def plain_bytes(computation: Computation, i: Instruction) -> float:
    """HBM bytes of an instruction that reads its operands and writes its result once."""
    if i.opcode in ("dynamic-slice", "gather", "slice"):
        return 2 * i.bytes
    if i.opcode == "dynamic-update-slice":
        return 2 * computation.instructions[i.operands[1]].bytes
    if i.opcode in ("slice-start", "dynamic-slice-start"):  # (operand, slice, …): in the background
        read, written = i.arrays[1].bytes * (not i.arrays[0].near), i.arrays[1].bytes * (not i.arrays[1].near)
        return read + written
    if i.opcode == "copy-start":
        return sum(computation.instructions[o].bytes for o in i.operands) + sum(
            a.bytes for a in i.arrays[:1] if not a.near
        )
    read = sum(computation.instructions[o].bytes for o in i.operands if o in computation.instructions)
    if i.opcode.endswith("-start") and len(i.arrays) > len(i.operands):  # (operands, results, …)
        return read + sum(a.bytes for a in i.arrays[len(i.operands) :] if not a.near)
    return read + i.bytes
