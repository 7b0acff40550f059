"""What programs of stepjax and of google-tunix need of a TPU, side by side, without one: `python docs/plan_peers.py`.

    pip install 'stepjax[plan]' google-tunix==0.1.7 qwix
    JAX_PLATFORMS=cpu python docs/plan_peers.py --topology=v5e:4x4 --shape=0.5b

PPO's update of actor and critic, and the decoding of all responses, of one model shape, batch and mesh. Tunix's are its
own functions, jitted and donated as its learner and sampler do it, under the parameters' shardings of its model. Both
are compiled by libtpu and read by the reader of `stepjax plan`, every loop counted by its turns, every response of full
length. `--help` lists the options.
"""

import argparse
import dataclasses
import importlib.metadata
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator

from plan_tunix import Tunix, Work

from stepjax.bench.shapes import SHAPES, Shape
from stepjax.chips import Topology, open_topology
from stepjax.config import Config, StreamOptions
from stepjax.options import parse
from stepjax.plan.compiled import ProgramPlan, plan_program
from stepjax.plan.surroundings import Planned, planned_programs, planned_run

MODELS = {
    "0.5b": SHAPES["0.5b"],
    "7b": Shape(layers=28, width=3584, heads=28, kv_heads=4, head_dim=128, mlp=18_944, vocab=152_064, rows=0),
    "1m": SHAPES["1m"],
}


def stepjax_config(work: Work, *changes: str) -> Config:
    """A run of PPO alone: policy, critic and reference; one update a round on all rows."""
    sizes = dataclasses.asdict(work.shape)
    del sizes["rows"]
    options = {f"model.{name}": size for name, size in sizes.items()} | {
        "model.dtype": "bfloat16",
        "model.remat": work.remat,
        "model.qk_norm": False,
        "mesh.tensor": work.tensor,
        "mesh.fsdp": -1,
        "mesh.data": 1,
        "stages": "('ppo',)",
        **dict.fromkeys(("ppo.prompts", "sft.rows", "prm.rows", "eval.rows"), work.rows),
        "ppo.samples": 1,
        "ppo.prompt_tokens": work.prompt,
        "ppo.max_new_tokens": work.new,
        "ppo.epochs": 1,
        "ppo.minibatches": 1,
        "ppo.halvings": 0,  # no response ends early
    }
    given = [f"--config.{name}={value}" for name, value in options.items()]
    config = parse([*given, *(f"--config.{change}" for change in changes)])[0]
    streams = {"outcome": StreamOptions(signal="outcome")}
    return dataclasses.replace(config, ppo=dataclasses.replace(config.ppo, streams=streams))


def of_stepjax(work: Work, topology: Topology) -> Iterator[tuple[str, Planned]]:
    """The run's update, with micro-batches as it chooses them and with one for all rows; its rollout both ways."""
    from stepjax.parallel import make_mesh

    mesh = make_mesh(1, -1, work.tensor, devices=topology.devices)
    at_once = work.rows * (work.prompt + work.new)
    for label, program, changes in (
        ("update", "update", ()),
        ("update, one micro-batch", "update", (f"ppo.micro_tokens={at_once}",)),
        ("decode", "rollout", ()),
        ("decode, weights gathered each step", "rollout", ("mesh.gather_to_decode=False",)),
    ):
        run = planned_run(stepjax_config(work, *changes), mesh)
        yield label, next(p for p in planned_programs(run) if p.program.name == program)


def planned(work: Work, topology: Topology, chosen: str) -> Iterator[tuple[str, str, ProgramPlan]]:
    """Software, program and plan, of those whose software and program hold the chosen words."""
    peer = f"google-tunix {importlib.metadata.version('google-tunix')}"
    sides: list[tuple[str, Callable[[], Iterator[tuple[str, Planned]]]]] = [
        ("stepjax", lambda: of_stepjax(work, topology)),
        (peer, lambda: Tunix(work, topology, flash=False).programs),
        (f"{peer}, flash", lambda: Tunix(work, topology, flash=True).updates()),
    ]
    for software, programs in sides:
        if ":" in chosen and not f"{software}:".endswith(chosen[: chosen.index(":") + 1]):
            continue
        for name, program in programs():
            if chosen in f"{software}: {name}":
                print(f"compiling {software}: {name}", file=sys.stderr, flush=True)
                yield software, name, plan_program(program, topology)


COLUMNS = (
    "software",
    "program",
    "HBM GiB",
    "args",
    "temp",
    "outputs",
    "beside",
    "TFLOP",
    "GB",
    "sent GB",
    "collectives",
)


def row(software: str, name: str, plan: ProgramPlan) -> list[str]:
    """A line of the table; `outputs` are those that take no argument's place."""
    if plan.arguments is None or plan.outputs is None or plan.aliased is None or plan.temporaries is None:
        total = "?" if plan.hbm_bytes_per_chip is None else f"{plan.hbm_bytes_per_chip / 2**30:.2f}, too much"
        return [software, name, total, plan.failure or "", *[""] * (len(COLUMNS) - 4)]
    memory = (plan.hbm_bytes_per_chip, plan.arguments, plan.temporaries, plan.outputs - plan.aliased, plan.beside)
    kinds = (f"{c['count']:,.0f} {kind} ({c['bytes'] / 1e9:.3g})" for kind, c in plan.collectives.items())
    return [
        software,
        name,
        *(f"{(x or 0.0) / 2**30:.2f}" for x in memory),
        f"{plan.flops_per_chip / 1e12:.4g}",
        f"{plan.bytes_per_chip / 1e9:.4g}",
        f"{plan.network_bytes / 1e9:.4g}",
        ", ".join(kinds),
    ]


def main(argv: list[str]) -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--topology", default="v5e:4x4")
    options.add_argument("--shape", choices=MODELS, default="0.5b")
    options.add_argument("--rows", type=int, default=32, help="responses in an update and decoded at once")
    options.add_argument("--prompt", type=int, default=512, help="tokens of a prompt")
    options.add_argument("--new", type=int, default=1536, help="tokens of a response")
    options.add_argument("--tensor", type=int, default=1, help="devices along tensor; the others are along fsdp")
    options.add_argument("--remat", type=int, choices=(0, 1), default=1, help="recompute a layer's activations")
    options.add_argument("--only", default="", help="programs whose software: name holds this")
    options.add_argument("--json", help="a file for the plans, one JSON object a line")
    given = options.parse_args(argv)
    if not importlib.util.find_spec("tunix"):
        options.error("google-tunix is not installed here: pip install google-tunix==0.1.7 qwix")
    topology = open_topology(given.topology)
    import jax

    jax.config.update("jax_platforms", "cpu")
    sizes = (given.rows, given.prompt, given.new, given.tensor)
    work = Work(MODELS[given.shape], given.topology, *sizes, bool(given.remat))
    lines = []
    for software, name, plan in planned(work, topology, given.only):
        lines.append(row(software, name, plan))
        if given.json:
            with open(given.json, "a") as file:
                file.write(json.dumps({"software": software, "program": name, "plan": plan.as_json()}) + "\n")
    print(f"{given.topology}, one chip, one execution; {given.shape}, {work}")
    for cells in (COLUMNS, ["---"] * len(COLUMNS), *lines):
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main(sys.argv[1:])
