"""The implicit reward model in a run: its figures of a round, what is refused, and the same bits after a kill."""

import dataclasses
import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from plan.planned import config_of
from runs.tiny_run import OPTIONS, TinyRun, arrays, assert_same_run, lines, stepjax, write_config

from stepjax.config import Config, ImplicitOptions, PPOOptions, StreamOptions
from stepjax.errors import UserError
from stepjax.options import parse
from stepjax.parallel import make_mesh
from stepjax.plan.surroundings import planned_programs, planned_run, resident_bytes
from stepjax.runs.check import check_options
from stepjax.runs.implicit_reward import belief_gap, outcome_figures

STREAM = {"implicit": StreamOptions(signal="implicit")}
STREAMS = """{
        "implicit": stream(signal="implicit", per="token", horizon="response", baseline="others", among="response"),
        "outcome": stream(signal="outcome", horizon="response", baseline="others", bad=0.0),
    }"""
CHANGES = {"ppo.iterations": 4, "ppo.implicit.minibatches": 2, "ppo.implicit.beta": 0.5, "ppo.implicit.epochs": 2}


def responses(*marks: str) -> list[Any]:
    """Right (r), wrong (w) and truncated (t) ones."""
    return [SimpleNamespace(correct=mark == "r", finished=mark != "t") for mark in marks]


def test_figures_of_a_round():
    odds = np.array([2.0, -1.0, 0.5, -3.0, 9.0], np.float32)
    found = outcome_figures(odds, responses("r", "r", "w", "w", "t"))
    loss = np.mean([math.log1p(math.exp(x)) for x in (-2.0, 1.0, 0.5, -3.0)])
    expected = {"accuracy": 0.5, "auc": 0.75, "margin": 0.5 - -1.25, "loss": loss}
    assert found == pytest.approx({f"implicit/{name}": value for name, value in expected.items()})
    believed = np.mean([1 / (1 + math.exp(-x)) for x in (2.0, -1.0, 0.5, -3.0)])
    assert belief_gap(odds, responses("r", "r", "w", "w", "t")) == pytest.approx(believed - 0.5)
    assert set(outcome_figures(odds[:2], responses("r", "r"))) == {"implicit/accuracy", "implicit/loss"}
    assert outcome_figures(odds[:1], responses("t")) == {} and belief_gap(odds[:1], responses("t")) == 0.0


@pytest.mark.parametrize(("changes", "said"), [
    ({"implicit": ImplicitOptions(beta=0.1)}, "implicit.beta: no stream has signal=implicit, so that nothing would"),
    ({"streams": STREAM, "implicit": ImplicitOptions(minibatches=3)}, "implicit.minibatches: 3 does not divide the"),
    ({"streams": STREAM, "implicit": ImplicitOptions(train_on="informative")}, "implicit.train_on=informative: ppo."),
])  # fmt: skip
def test_what_it_cannot_do_is_refused(changes, said):
    with pytest.raises(UserError, match=rf"^config\.ppo\.{said}"):
        check_options(dataclasses.replace(Config(), ppo=PPOOptions(**changes)), make_mesh(1, 1, 1))
    check_options(dataclasses.replace(Config(), ppo=PPOOptions(streams=STREAM)), make_mesh(1, 1, 1))


@pytest.mark.parametrize("rank", [0, 4])
def test_a_plan_counts_its_parameters_and_readings(tmp_path, rank):
    """In whole, or as adapters of its own on the reference's weights; beside every other program it lies in memory."""
    changes = ["ppo.streams.implicit.signal=implicit", f"lora.rank={rank}", "prm.from_sft=True", "stages=('ppo',)"]
    config = config_of(tmp_path, *changes)
    mesh = make_mesh(2, 2, 2, devices=jax.devices()[:8])
    run = planned_run(config, mesh)
    found = {p.program.name: p for p in planned_programs(run)}
    without = {p.program.name: p for p in planned_programs(planned_run(config_of(tmp_path, *changes[1:]), mesh))}
    assert list(found) == ["rollout", "score", "implicit_score", "implicit_update", "credit", "update"]
    assert found["implicit_score"].runs == 2 * found["implicit_update"].runs == 2 * config.ppo.iterations
    state = found["implicit_update"].program.inputs[0]
    assert all(
        "_lora_" in jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(state["params"])
    ) == bool(rank)
    for name, one in without.items():
        more = found[name].beside - one.beside
        # The new stream has a critic head, too.
        assert more == pytest.approx(resident_bytes(state), rel=0.02), name


@pytest.mark.slow
@pytest.mark.parametrize(("order", "rank"), [("before", 0), ("after", 2)])
def test_a_run_trains_it_and_continues_with_the_same_bits(tiny: TinyRun, tmp_path: Path, order, rank):
    more = {"ppo.implicit.order": order, "lora.rank": rank, "prm.from_sft": True, "ppo.implicit.optimizer.lr": 1e-2}
    config = write_config(tmp_path / "changed.py", {**OPTIONS, **CHANGES, **more}, streams=STREAMS)
    whole, parts = tiny.copy(tmp_path / "whole", without=("prm", "ppo")), tmp_path / "parts"
    (whole / "config.json").write_text(json.dumps(dataclasses.asdict(parse([f"--config={config}"])[0])))
    assert stepjax("ppo", config, whole) == 0
    told = lines(whole, "ppo")
    first = told[0]
    assert first["implicit/auc"] == 0.5 and first["implicit/margin"] == 0.0, "φ is the reference"
    assert all(line["implicit/grad_norm"] > 0 and 0.1 < line["implicit/loss"] < 2 for line in told)
    assert told[-1]["implicit/loss"] != told[1]["implicit/loss"] and "hack/implicit_gap" in first
    paid = [line["advantage_std/implicit"] for line in told]
    assert (paid[0] == 0.0) == (order == "after") and all(x > 0 for x in paid[1:])
    saved = arrays(whole, "ppo")
    mine = [name for name in saved if name.startswith("implicit/params/")]
    assert mine and all("_lora_" in name for name in mine) == bool(rank)
    shutil.copytree(whole, parts)
    shutil.rmtree(parts / "checkpoints" / "ppo" / "4")
    assert stepjax("ppo", config, parts) == 0
    assert_same_run(parts, whole, ["ppo"])
