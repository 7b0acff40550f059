"""A small run as the plan sees it, on eight devices: its programs' compiled text, parsed."""

import dataclasses
from pathlib import Path
from typing import Any

from stepjax.config import Config
from stepjax.options import parse
from stepjax.parallel import make_mesh
from stepjax.plan.cost import Cost, module_cost
from stepjax.plan.hlo_text import Module
from stepjax.plan.hlo_text import parse as parse_text
from stepjax.plan.surroundings import Planned, planned_programs, planned_run

VOCAB, LAYERS, PROMPT, NEW, ROWS = 520, 5, 64, 192, 32

RECIPE = f"""
from stepjax.options import recipe, stream


def get_config():
    config = recipe()
    config.model.vocab = {VOCAB}
    config.model.layers = {LAYERS}
    config.model.width = 96
    config.model.heads = 4
    config.model.kv_heads = 2
    config.model.head_dim = 32
    config.model.mlp = 176
    config.mesh.data = 2
    config.mesh.fsdp = 2
    config.mesh.tensor = 2
    config.sft.rows = 8
    config.sft.row_tokens = 256
    config.prm.rows = 8
    config.ppo.prompts = {ROWS}
    config.ppo.prompt_tokens = {PROMPT}
    config.ppo.max_new_tokens = {NEW}
    config.ppo.epochs = 1
    config.ppo.minibatches = 2
    config.eval.rows = 8
    return config
"""


def config_of(folder: Path, *changes: str) -> Config:
    """The recipe above, with options changed as on a command line."""
    path = folder / "planned_config.py"
    path.write_text(RECIPE)
    return parse([f"--config={path}", *(f"--config.{change}" for change in changes)])[0]


@dataclasses.dataclass
class Compiled:
    """One program: what it is, its compiled text, and what the compiler says of its memory."""

    planned: Planned
    module: Module
    cost: Cost
    memory: Any


def compile_programs(config: Config, devices: Any, *names: str) -> tuple[Any, dict[str, Compiled]]:
    """The run as planned, and the programs of these names, compiled for a mesh of the devices."""
    mesh = make_mesh(config.mesh.data, config.mesh.fsdp, config.mesh.tensor, devices=devices)
    run = planned_run(config, mesh)
    found = {}
    for planned in planned_programs(run):
        if planned.program.name in names:
            compiled = planned.program.lower().compile()
            module = parse_text(compiled.as_text())
            cost = module_cost(module, unknown_trips=planned.trips, in_turn=planned.in_turn)
            found[planned.program.name] = Compiled(planned, module, cost, compiled.memory_analysis())
    return run, found
