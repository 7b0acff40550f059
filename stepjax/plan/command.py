"""`stepjax plan`: its options, one plan or a sweep over meshes and batch sizes, JSON for scripts."""

import dataclasses
import json
import math
import os
import re
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from stepjax.chips import EXAMPLES, Topology, open_topology
from stepjax.config import Config
from stepjax.errors import UserError, nearest
from stepjax.options import parse

if TYPE_CHECKING:
    from stepjax.plan.report import Plan

Sizes = tuple[int, ...]
"""Devices along data, fsdp, tensor and, where rows are cut, context."""

OPTIONS = ("topology", "mesh", "programs", "json", "sweep")


def plan(argv: list[str]) -> None:
    """Prints the plan of a config, or with `--sweep` one line per mesh and batch size, the best first."""
    own, rest = _own(argv)
    config, _ = parse(rest)
    if "topology" not in own:
        raise UserError(f"name the chips: stepjax plan --config=… --topology=NAME, such as {EXAMPLES}")
    # Constants of the programs are made on the CPU, whatever accelerator is here.
    os.environ["JAX_PLATFORMS"] = "cpu"
    topology = open_topology(own["topology"])
    import jax

    jax.config.update("jax_platforms", "cpu")
    from stepjax.plan.tables import print_plan, print_sweep

    only = tuple(p for p in own.get("programs", "").split(",") if p)
    if "sweep" in own:
        if "mesh" in own:
            raise UserError("--mesh: a sweep tries all meshes; leave out --mesh or --sweep")
        found = sweep(config, topology, only)
        if "json" in own:
            _print_json([{"prompts": prompts, **made.as_json()} for prompts, made in found])
        else:
            print_sweep(found)
        return
    mesh = config.mesh
    given = mesh.data, mesh.fsdp, mesh.tensor, *_context(mesh.context)
    sizes = _sizes(own["mesh"]) if "mesh" in own else given
    made = plan_run(config, topology, sizes, only)
    if "json" in own:
        _print_json(made.as_json())
    else:
        print_plan(made, config)


def plan_run(config: Config, topology: Topology, sizes: Sizes, only: Sequence[str] = ()) -> "Plan":
    """Compiles the programs of the config's stages (those named in `only`, if any) on a mesh of these sizes.

    UserError where the mesh does not take all devices of the topology, or the config does not fit the mesh.
    """
    from stepjax.parallel import make_mesh
    from stepjax.plan.report import make_plan
    from stepjax.plan.worker import Job, planned_apart

    if -1 not in sizes and math.prod(sizes) != len(topology.devices):
        count = len(topology.devices)
        raise UserError(
            f"--mesh (or config.mesh): it takes {math.prod(sizes)} of the {count} devices of {topology.name}"
        )
    mesh = make_mesh(*sizes, devices=topology.devices)
    shape = {str(axis): size for axis, size in mesh.shape.items() if axis != "context" or size > 1}
    name = " × ".join(f"{axis} {size}" for axis, size in shape.items())
    job = Job(config, topology.name, sizes, tuple(only))
    programs = planned_apart(job, lambda program: _say(f"{topology.name}, mesh {name}: compiling {program}"))
    return make_plan(config, topology.name, topology.chip, topology.chips, shape, programs, whole=not only)


def sweep(config: Config, topology: Topology, only: Sequence[str] = ()) -> list[tuple[int, "Plan"]]:
    """Prompts per round and plan, of every mesh and batch size that divides: those that fit first, then the fastest."""
    found: list[tuple[int, Any]] = []
    refused: list[str] = []
    for sized, sizes in _candidates(config, len(topology.devices)):
        try:
            found.append((sized.ppo.prompts, plan_run(sized, topology, sizes, only)))
        except UserError as error:
            refused.append(str(error))
            _say(f"mesh {sizes}, {sized.ppo.prompts} prompts: {error}")
    if not found:
        raise UserError(f"--sweep: no mesh fits this config; the last error: {refused[-1]}")

    def order(x: tuple[int, Any]) -> tuple[bool, float, float]:
        seconds = sum(p.seconds or 0.0 for p in x[1].programs)
        return x[1].fits is not True, -(x[1].tokens_per_second or 0.0), seconds / x[0]

    return sorted(found, key=order)


def _candidates(config: Config, devices: int) -> Iterator[tuple[Config, Sizes]]:
    """Half, the same and twice the prompts, on meshes of all splits of the devices into fsdp and tensor, the latter up
    to 16 and a divisor of the heads; and data-parallel ones, where parameters are not divided. `mesh.context` stays."""
    heads, context = config.model.heads, max(config.mesh.context, 1)
    if devices % context:
        raise UserError(f"config.mesh.context: {context} does not divide the topology's {devices} devices")
    devices //= context
    tensors = [t for t in (1, 2, 4, 8, 16) if devices % t == 0 and (bool(config.model.path) or heads % t == 0)]
    shapes = [(1, devices // t, t) for t in tensors] + [(devices, 1, 1)]
    meshes = [(*shape, *_context(context)) for shape in shapes]
    for prompts in (config.ppo.prompts // 2, config.ppo.prompts, config.ppo.prompts * 2):
        if prompts:
            sized = dataclasses.replace(config, ppo=dataclasses.replace(config.ppo, prompts=prompts))
            yield from ((sized, sizes) for sizes in meshes)


def _context(size: int) -> tuple[int, ...]:
    """The fourth size of a mesh, where rows are cut."""
    return () if size == 1 else (size,)


def _say(line: str) -> None:
    print(f"stepjax: {line}", file=sys.stderr, flush=True)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, allow_nan=False))


def _own(argv: list[str]) -> tuple[dict[str, str], list[str]]:
    """This command's own options, and the others."""
    own: dict[str, str] = {}
    rest = []
    for argument in argv:
        if match := re.fullmatch(r"--(topology|mesh|programs)=(.+)", argument):
            own[match[1]] = match[2]
        elif argument in ("--json", "--sweep"):
            own[argument[2:]] = "yes"
        elif argument.startswith("--config") or not argument.startswith("--"):
            rest.append(argument)
        else:
            name = argument[2:].partition("=")[0]
            if name in OPTIONS:
                raise UserError(f"{argument}: write --topology=NAME, --mesh=DATAxFSDPxTENSOR, --programs=A,B, --json")
            raise UserError(f"{argument}: no such option{nearest(name, (*OPTIONS, 'config'))}")
    return own, rest


def _sizes(text: str) -> Sizes:
    if not re.fullmatch(r"-?\d{1,6}([x,]-?\d{1,6}){2,3}", text):
        raise UserError(
            f"--mesh={text}: write devices along data, fsdp and tensor, as in 1x32x8, and along context where packed "
            "rows are cut, as in 1x16x4x4"
        )
    return tuple(int(size) for size in re.split("[x,]", text))
