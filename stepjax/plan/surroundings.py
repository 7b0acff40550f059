"""A run's surroundings for planning: its models and step splitter, without data, tokenizer files or devices."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from jax.sharding import Mesh

from stepjax.config import Config
from stepjax.errors import UserError
from stepjax.learners.optimizers import make_optimizer
from stepjax.learners.supervised import prm_sums, sft_sums, train_program
from stepjax.programs import Program
from stepjax.rewards.signals import reads_prm
from stepjax.runs.check import check_options
from stepjax.runs.ppo_programs import PPOPrograms
from stepjax.runs.setup import Run
from stepjax.runs.start import open_start
from stepjax.steps import StepSplitter


def planned_run(config: Config, mesh: Mesh) -> Run:
    """The run of a config as far as its programs depend on it.

    What programs know of the tokenizer is the number of its entries; the vocabulary of the plan has that many, all of
    them single bytes.
    """
    config = dataclasses.replace(config, ppo=dataclasses.replace(config.ppo, environment=""))
    check_options(config, mesh)
    start = open_start(config)
    vocab = start.decoder.vocab if start is not None else _vocab(config)
    vocab = -(-vocab // 8) * 8
    contents = [bytes([i % 256]) for i in range(vocab)]
    splitter = StepSplitter.of_bytes(contents, config.task.separator or "\n")
    tokenizer: Any = SimpleNamespace(eos_token_id=0, get_vocab=lambda: {"": vocab - 1})
    task: Any = None
    return Run(config, Path(), mesh, task, tokenizer, splitter, vocab, start)


def _vocab(config: Config) -> int:
    if config.model.vocab:
        return config.model.vocab
    if config.tokenizer.path:
        raise UserError("config.model.vocab: give the entries of the tokenizer; a plan does not load one")
    if config.task.name == "register_chain":
        from stepjax.tasks.register_chain import build_tokenizer

        return len(build_tokenizer())
    return config.tokenizer.vocab


@dataclasses.dataclass(frozen=True)
class Planned:
    """A program of the run.

    Attributes:
      runs: how often the whole run executes it.
      beside: what lies on the devices while it runs, besides its arguments (abstract arrays).
      turns: how often a loop that ends by its data turns at most.
    """

    program: Program
    stage: str
    runs: int
    beside: Any = ()
    turns: int = 1


def planned_programs(run: Run) -> list[Planned]:
    """The programs of the config's stages, in the order in which a run meets them."""
    config, found = run.config, []
    for stage, definition, options, sums in (
        ("sft", run.policy, config.sft, sft_sums),
        ("prm", run.prm, config.prm, prm_sums),
    ):
        if stage not in config.stages or (stage == "prm" and (config.prm.path or config.prm.reader_layers)):
            continue
        optimizer = make_optimizer(options.optimizer, options.updates)
        program = train_program(
            stage,
            sums,
            definition,
            optimizer,
            run.mesh,
            rows=options.rows,
            width=options.row_tokens,
            part=run.of_stage(stage).part(stage, definition),
        )
        found.append(Planned(program, stage, options.updates))
    if "ppo" in config.stages:
        found += _ppo(run)
    return found


def _ppo(run: Run) -> list[Planned]:
    options = run.config.ppo
    public = bool(run.config.prm.path)
    prm = not public and any(reads_prm(s) for s in options.streams.values())
    ppo = PPOPrograms(run, prm=prm, public=public)
    policy, reference, critic, prm_params, rows = ppo.score.inputs
    state = ppo.abstract_state
    moments = {
        role: part["optimizer"] for role, part in state.items() if isinstance(part, dict) and "optimizer" in part
    }
    scored = ppo.credit.inputs[0]
    beside = {
        "rollout": (critic, moments, reference, prm_params),
        "score": (moments,),
        "credit": (policy, critic, moments, reference, prm_params),
        "update": (reference, prm_params),
    }
    del rows, scored
    return [
        Planned(program, "ppo", options.iterations, beside[program.name], options.max_new_tokens)
        for program in ppo.programs
    ]
