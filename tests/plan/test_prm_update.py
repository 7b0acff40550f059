"""The plan's update of the process reward model is the one that stage prm trains with, whatever it learns from."""

import contextlib
import dataclasses
import itertools

import jax
import pytest

from stepjax.config import Config
from stepjax.data.schema import LabelledSolution, line
from stepjax.options import parse
from stepjax.parallel import make_mesh
from stepjax.plan.surroundings import planned_programs, planned_run
from stepjax.runs import prm, prm_data
from stepjax.runs.opening import open_run
from stepjax.runs.setup import Run

SMALL = {
    "stages": "('prm',)",
    "tokenizer.vocab": 300,
    "model.vocab": 304,
    "model.layers": 1,
    "model.width": 8,
    "model.heads": 2,
    "model.kv_heads": 1,
    "model.head_dim": 4,
    "model.mlp": 16,
    "mesh.data": 2,
    "mesh.fsdp": 2,
    "prm.rows": 4,
    "prm.row_tokens": 96,
    "prm.demonstrations": 16,
    "prm.samples": 0,
    "prm.valid_samples": 0,
    "ppo.prompt_tokens": 48,
}
LABELLED = {"task.name": "labelled", "prm.from_sft": False, "prm.classes": 2, "prm.neutral": "good"}

CASES = [
    *itertools.product([False], ["class"], [0, 1]),
    *itertools.product([True], ["class", "bce", "mse"], [0, 1]),
]
"""Whether from labelled data, `prm.objective` and `prm.reader_layers`: all that fit each other."""

TARGETS = {False: ["step", "prefix", "value"], True: ["step", "prefix", "value", "outcome"]}


class Surroundings:
    """A config and a run of each kind of data; a case differs by its options alone."""

    def __init__(self, folder, stack: contextlib.ExitStack):
        for kind, labels in {"step": {"ratings": (1, -1)}, "value": {"values": (0.9, 0.1)}}.items():
            records = (LabelledSolution(f"{i}", ("ab", "ba"), kind=kind, correct=i > 20, **labels) for i in range(40))
            (folder / f"{kind}.jsonl").write_text("".join(map(line, records)))
        self.folder = folder
        self.options = {False: SMALL, True: SMALL | LABELLED | {"prm.data": str(folder / "step.jsonl")}}
        self.runs = {
            data: stack.enter_context(open_run(self.config(data), folder / f"run{data}")) for data in self.options
        }

    def config(self, data: bool, **changes) -> Config:
        options = self.options[data] | {f"prm.{name}": value for name, value in changes.items()}
        if data and changes.get("target") == "value":
            options["prm.data"] = str(self.folder / "value.jsonl")
        return parse([f"--config.{name}={value}" for name, value in options.items()])[0]

    def run(self, data: bool, config: Config) -> Run:
        return dataclasses.replace(self.runs[data], config=config)


@pytest.fixture(scope="module")
def surroundings(tmp_path_factory):
    with contextlib.ExitStack() as stack:
        yield Surroundings(tmp_path_factory.mktemp("prm_update"), stack)


class Trains(Exception):
    """Stage prm has come to its training; holds what it trains with."""


def of_stage(run: Run, monkeypatch):
    """The programs that stage prm would train with, and its first batch."""

    def train(programs, label, *, batches, initial, valid):
        raise Trains(programs, next(batches()))

    for module in (prm, prm_data):
        monkeypatch.setattr(module, "train", train)
    monkeypatch.setattr(prm, "stage_params", lambda *_: {})
    with pytest.raises(Trains) as trains:
        prm.train_prm(run)
    return trains.value.args


@pytest.mark.parametrize(("data", "objective", "reader_layers"), CASES)
def test_the_plan_has_the_update_of_the_stage(surroundings, monkeypatch, data, objective, reader_layers):
    """Of every target what goes in; of one, another in each case, the whole text: to lower takes time."""
    mesh = make_mesh(2, 2, 1, devices=jax.devices()[:4])
    lowered = TARGETS[data][CASES.index((data, objective, reader_layers)) % len(TARGETS[data])]
    for target in TARGETS[data]:
        config = surroundings.config(data, objective=objective, target=target, reader_layers=reader_layers)
        programs, batch = of_stage(surroundings.run(data, config), monkeypatch)
        (planned,) = planned_programs(planned_run(config, mesh))
        program = planned.program
        assert (program.name, planned.stage, planned.runs) == ("prm_update", "prm", config.prm.updates)
        assert program.inputs == programs.update.inputs
        assert {k: (x.shape, x.dtype) for k, x in batch.items()} == {
            k: (x.shape, x.dtype) for k, x in program.inputs[1].items()
        }
        if target == lowered:
            assert program.lower().as_text() == programs.update.lower().as_text()


@pytest.mark.parametrize("adapted", [("ppo",), ("prm", "ppo")])
def test_a_stage_before_the_adapters_is_planned_without_them(surroundings, adapted):
    config = surroundings.config(False)
    lora = dataclasses.replace(config.lora, rank=2, stages=adapted)
    config = dataclasses.replace(config, lora=lora, stages=("sft", "prm"))
    planned = planned_programs(planned_run(config, make_mesh(2, 2, 1, devices=jax.devices()[:4])))
    sft, prm_update = (p.program.inputs for p in planned)
    assert "lora" not in str(jax.tree.structure(sft)) and len(sft) == 2
    has_adapters = "lora" in str(jax.tree.structure(prm_update))
    assert has_adapters == ("prm" in adapted) == (len(prm_update) == 3), "the base stands still beside them"
