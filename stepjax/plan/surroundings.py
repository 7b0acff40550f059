"""A run as the planner needs it: its models and step splitter, without data, tokenizer files or devices."""

import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
from jax.sharding import Mesh

from stepjax.config import Config, EnvironmentOptions
from stepjax.data.framing import Framing
from stepjax.errors import UserError
from stepjax.programs import Program
from stepjax.rewards.reward_streams import reads_environment, reads_prm
from stepjax.runs.check import check_options
from stepjax.runs.ppo_programs import PPOPrograms
from stepjax.runs.setup import Run
from stepjax.runs.start import open_start
from stepjax.runs.supervised_programs import prm_programs, sft_programs
from stepjax.steps import StepSplitter
from stepjax.tasks.registry import task_entry
from stepjax.tasks.tagged import step_separator


def planned_run(config: Config, mesh: Mesh) -> Run:
    """The run of a config as far as its programs depend on it.

    Programs depend only on the number of the tokenizer's entries; the vocabulary of the plan has that many, all of
    them single bytes.
    """
    check_options(config, mesh)
    config = _without_environment(config)
    start = open_start(config)
    vocab = start.decoder.vocab if start is not None else _vocab(config)
    vocab = -(-vocab // 8) * 8
    contents = [bytes([i % 256]) for i in range(vocab)]
    splitter = StepSplitter.of_bytes(contents, step_separator(config, "\n"))
    tokenizer: Any = SimpleNamespace(get_vocab=lambda: {"": vocab - 1})
    framing = Framing(tokenizer, (), (0,) if start is None else start.ends or (0,))
    task: Any = None
    return Run(config, Path(), mesh, task, tokenizer, framing, splitter, vocab, start)


def _without_environment(config: Config) -> Config:
    """The run as if its policy talked to itself: rewards of an environment cost what any others at a few tokens do."""
    streams = dict(config.ppo.streams)
    for name in reads_environment(streams):
        streams[name] = dataclasses.replace(streams[name], signal="finish")
    ppo = dataclasses.replace(config.ppo, environment="", streams=streams)
    return dataclasses.replace(config, ppo=ppo, environment=EnvironmentOptions())


def _vocab(config: Config) -> int:
    if config.model.vocab:
        return config.model.vocab
    if config.tokenizer.path:
        raise UserError("config.model.vocab: set it to the entries of the tokenizer, which a plan does not load")
    own = task_entry(config.task.name).tokenizer
    return config.tokenizer.vocab if own is None else len(own())


@dataclasses.dataclass(frozen=True)
class Planned:
    """A program of the run.

    Attributes:
      runs: how often the whole run executes it.
      beside: bytes on a device of the parameters and moments that the run holds while the program runs, less those
        among its arguments; below 0 where arguments share buffers (adapters on one base).
      in_turn: of its loops that end by their data, one carries on where the other ended.
    """

    program: Program
    stage: str
    runs: int
    beside: float = 0.0
    in_turn: bool = False

    @property
    def turns(self) -> int:
        """Most turns of its loops that end by their data."""
        return self.program.turns

    @property
    def trips(self) -> tuple[int, ...]:
        """Those of each loop in one turn of the loop around it."""
        return self.program.trips


def planned_programs(run: Run) -> list[Planned]:
    """The programs of the config's stages, in the order of a run."""
    config, found = run.config, []
    if "sft" in config.stages:
        found.append(Planned(sft_programs(run).update, "sft", config.sft.updates))
    if "prm" in config.stages and not config.prm.path:
        found.append(Planned(prm_programs(run).update, "prm", config.prm.updates))
    if "ppo" in config.stages:
        found += _ppo(run)
    return found


def _ppo(run: Run) -> list[Planned]:
    options = run.config.ppo
    public = bool(run.config.prm.path)
    prm = not public and any(reads_prm(s) for s in options.streams.values())
    ppo = PPOPrograms(run, prm=prm, public=public)
    policy, reference, critic, prm_params = ppo.score.inputs[:4]
    state = ppo.abstract_state
    # Where adapters are trained, the roles' other parameters are the reference's own.
    held = resident_bytes((state, reference, prm_params))
    given: dict[Program, Any] = {
        ppo.sampler.program: (policy,),
        ppo.score: (policy, reference, critic, prm_params),
        ppo.credit: (),
        ppo.update: (ppo.update.inputs[0], ppo.update.inputs[4:] if _is_adapted(ppo) else ()),
    }
    runs = dict.fromkeys(ppo.programs, options.iterations)
    if (phi := ppo.implicit) is not None:
        given |= {phi.score: (phi.score.inputs[0],), phi.update: (phi.update.inputs[0], phi.update.inputs[5:])}
        runs[phi.score] *= phi.readings
    return [
        Planned(
            program,
            "ppo",
            runs[program],
            held - resident_bytes(given[program]),
            in_turn=program is ppo.sampler.program,
        )
        for program in ppo.programs
    ]


def _is_adapted(ppo: PPOPrograms) -> bool:
    return any(trainable.frozen_shapes for trainable in ppo.trainables.values())


def resident_bytes(tree: Any) -> float:
    """Bytes on one device of abstract arrays with shardings."""
    total = 0.0
    for leaf in jax.tree.leaves(tree):
        total += math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
    return total
