"""The command line of `stepjax plan`: options, the table for people, JSON for scripts, the sweep."""

import dataclasses
import json
import os
import re
import sys
from typing import Any

from stepjax.config import Config
from stepjax.errors import UserError
from stepjax.options import parse
from stepjax.plan.chips import EXAMPLES, open_topology


def plan(argv: list[str]) -> None:
    """Prints the plan (or with `--sweep` one line a mesh and batch size); see `stepjax plan --help`."""
    own, rest = _own(argv)
    config, _, more = parse(rest, "quickstart")
    if more:
        raise UserError(f"what is {more[0]!r}? Options are written --config.name=value")
    if "topology" not in own:
        raise UserError(f"name the chips: stepjax plan --config=… --topology=NAME, such as {EXAMPLES}")
    # Constants of the programs are made on the CPU, whatever accelerator is here.
    os.environ["JAX_PLATFORMS"] = "cpu"
    topology = open_topology(own["topology"])
    import jax

    jax.config.update("jax_platforms", "cpu")
    from stepjax.plan.report import make_plan

    only = tuple(p for p in own.get("programs", "").split(",") if p)
    sizes = _sizes(own["mesh"]) if "mesh" in own else (config.mesh.data, config.mesh.fsdp, config.mesh.tensor)
    if "sweep" in own:
        found = _sweep(config, topology, only)
        if "json" in own:
            _print_json([p.as_json() for p in found])
        else:
            _sweep_table(found)
        return
    made = make_plan(config, topology, sizes, only)
    if "json" in own:
        _print_json(made.as_json())
    else:
        _table(made)


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
        else:
            rest.append(argument)
    return own, rest


def _sizes(text: str) -> tuple[int, int, int]:
    match = re.fullmatch(r"(-?\d{1,6})[x,](-?\d{1,6})[x,](-?\d{1,6})", text)
    if not match:
        raise UserError(f"--mesh={text}: write devices along data, fsdp and tensor, as in 1x32x8")
    return int(match[1]), int(match[2]), int(match[3])


def _sweep(config: Config, topology: Any, only: tuple[str, ...]) -> list[Any]:
    """Plans of the meshes and batch sizes that fit the config's divisions: those that fit first, then the fastest."""
    from stepjax.plan.report import make_plan

    found, refused = [], ""
    count = len(topology.devices)
    tensors = [t for t in (1, 2, 4, 8, 16) if count % t == 0 and config.model.heads % t == 0]
    for scale in (1, 2):
        sized = dataclasses.replace(config, ppo=dataclasses.replace(config.ppo, prompts=config.ppo.prompts * scale))
        for tensor in tensors:
            try:
                made = make_plan(sized, topology, (1, count // tensor, tensor), only)
            except UserError as error:
                refused = str(error)
                continue
            found.append(dataclasses.replace(made, mesh={**made.mesh, "prompts": sized.ppo.prompts}))
            print(f"stepjax: planned {made.mesh}", file=sys.stderr, flush=True)
    if not found:
        raise UserError(f"--sweep: no mesh divides this config's rows; the last refusal: {refused}")

    def order(p: Any) -> tuple[bool, float]:
        return not p.fits, -(p.tokens_per_second or 0.0)

    return sorted(found, key=order)


def _gib(x: float | None) -> str | None:
    return None if x is None else f"{x / 2**30:.2f}"


def _table(made: Any) -> None:
    from stepjax.runs.progress import table

    mesh = " × ".join(f"{axis} {size}" for axis, size in made.mesh.items())
    columns = ("program", "HBM GiB", "args", "temp", "beside", "TFLOP", "GB", "sent GB", "bound", "seconds")
    rows = [
        (
            p.name,
            _gib(p.hbm_bytes_per_chip),
            _gib(p.arguments),
            _gib(p.temporaries),
            _gib(p.beside),
            f"{p.flops_per_chip / 1e12:.4g}",
            f"{p.bytes_per_chip / 1e9:.4g}",
            f"{sum(c['bytes'] for c in p.collectives.values()) / 1e9:.4g}",
            p.bound,
            None if p.seconds is None else f"{p.seconds:.3g}",
        )
        for p in made.programs
    ]
    table(f"{made.topology}, {made.chips} chips of {made.hbm / 2**30:g} GiB, mesh {mesh}; a chip, a run", columns, rows)
    sent = [
        (p.name, kind, f"{c['count']:g}", f"{c['bytes'] / 1e9:.4g}")
        for p in made.programs
        for kind, c in p.collectives.items()
    ]
    if sent:
        table("collectives, a chip", ("program", "kind", "count", "sent GB"), sent)
    for assumption in made.assumptions:
        print(f"assumed: {assumption}")
    for p in made.programs:
        if not p.fits:
            print(f"{p.name} does not fit; its largest buffers:")
            for size, name in p.largest:
                print(f"  {size / 2**30:8.2f} GiB  {name}")
    if made.fits:
        print("verdict: it fits", end="")
    else:
        print(
            "verdict: it does not fit. More fsdp or tensor devices divide parameters and moments; fewer rows a device "
            "(more ppo.minibatches, smaller rows), model.remat and model.dtype=bfloat16 shrink temporaries",
            end="",
        )
    speed = "" if made.tokens_per_second is None else f"; {made.tokens_per_second:,.0f} tokens a second"
    hours = "" if made.chip_hours is None else f"; {made.chip_hours:,.1f} chip-hours in all"
    print(speed + hours)


def _sweep_table(found: list[Any]) -> None:
    from stepjax.runs.progress import table

    rows = [
        (
            *(str(size) for size in p.mesh.values()),
            "yes" if p.fits else "no",
            _gib(max(x.hbm_bytes_per_chip for x in p.programs)),
            None if p.tokens_per_second is None else f"{p.tokens_per_second:.0f}",
            None if p.chip_hours is None else f"{p.chip_hours:.1f}",
        )
        for p in found
    ]
    columns = ("data", "fsdp", "tensor", "prompts", "fits", "HBM GiB", "tokens/s", "chip-hours")
    table(f"{found[0].topology}: meshes and batch sizes, best first", columns, rows)
