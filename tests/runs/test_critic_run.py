"""PPO whose critics stand on trunks of their own, on the process reward model, or are fitted again now and then."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from runs.tiny_run import OPTIONS, TinyRun, arrays, assert_same_run, lines, stepjax, write_config

from stepjax.options import parse

STREAMS = """{
        "process": stream(signal="prm", critic_trunk="own"),
        "outcome": stream(signal="outcome", horizon="response", lam=1.0, neutral=0.5, bad=0.0, critic_trunk="prm"),
        "kl": stream(signal="kl", weight=0.5, kl_target=1e-4),
    }"""
CHANGES = {"ppo.iterations": 4, "ppo.critic_refit": 2, "ppo.checkpoint_every": 1}


@pytest.mark.slow
def test_critics_of_their_own_are_refitted_and_resume(tiny: TinyRun, tmp_path: Path) -> None:
    config = write_config(tmp_path / "changed.py", {**OPTIONS, **CHANGES}, streams=STREAMS)

    whole, parts = tiny.copy(tmp_path / "whole", without=("ppo",)), tmp_path / "parts"
    (whole / "config.json").write_text(json.dumps(dataclasses.asdict(parse([f"--config={config}"])[0])))
    assert stepjax("ppo", config, whole) == 0
    shutil.copytree(whole, parts)
    shutil.rmtree(parts / "checkpoints" / "ppo" / "4")
    assert stepjax("ppo", config, parts) == 0
    assert_same_run(parts, whole, ["ppo"])
    by_round = {i: arrays(whole, "ppo", i) for i in (3, 4)}
    critic = [name for name in by_round[4] if name.startswith("critic/params/")]
    parts_of_it = {name.split("/")[2] for name in critic}
    assert parts_of_it == {"shared", "own_process", "own_outcome"}

    def moved(first: int, second: int, prefix: str) -> bool:
        names = [name for name in by_round[first] if name.startswith(prefix)]
        return any((by_round[first][n] != by_round[second][n]).any() for n in names)

    assert not moved(3, 4, "critic/params") and moved(3, 4, "policy/params")  # rounds 1 and 3 trained the critic alone
    weights = [line["weight/kl"] for line in lines(whole, "ppo")]
    assert weights[0] == 0.5 and len(set(weights)) > 1
    assert by_round[4]["weights/kl"] != 0.5


@pytest.mark.slow
def test_a_value_prm_is_the_critic_from_the_first_round_on(tiny: TinyRun, tmp_path: Path) -> None:
    """Frozen, its part of the critic stays the process reward model that it was."""
    changes = {**OPTIONS, "ppo.iterations": 1, "ppo.critic_frozen": True}
    config = write_config(tmp_path / "changed.py", changes, streams=STREAMS)
    workdir = tiny.copy(tmp_path / "run", without=("ppo",))
    (workdir / "config.json").write_text(json.dumps(dataclasses.asdict(parse([f"--config={config}"])[0])))
    assert stepjax("ppo", config, workdir) == 0
    ours, prm = arrays(workdir, "ppo"), arrays(workdir, "prm")
    prefix = "critic/params/own_outcome/"
    names = [name.removeprefix(prefix) for name in ours if name.startswith(prefix)]
    assert names
    for name in names:
        np.testing.assert_array_equal(ours[prefix + name], prm[f"params/{name}"])
    assert np.isfinite(lines(workdir, "ppo")[-1]["explained_variance/outcome"])


@pytest.mark.parametrize(
    "change, said",
    [
        ("critic_refit=1", "config.ppo.critic_refit: must be 0 or at least 2"),
        ("critic_refit=2 critic_frozen=True", "critic_refit: 2 and critic_frozen contradict each other"),
        ("streams.kl.weight=0.0", "streams.kl.weight: kl_target adapts it by factors"),
        ("streams.process.kl_target=0.1", "streams.process.kl_target: only signal kl reads it, not prm"),
        ("streams.outcome.critic=False", "streams.outcome.critic_trunk: the stream has no critic"),
        ("streams.process.critic_trunk=none", "must be one of shared, own, prm, not 'none'"),
    ],
)
def test_contradictions_take_one_line(tmp_path: Path, capsys, change: str, said: str) -> None:
    config = write_config(tmp_path / "changed.py", OPTIONS, streams=STREAMS)
    changes = [f"--config.ppo.{part}" for part in change.split()]
    assert stepjax("ppo", config, tmp_path / "run", *changes) == 2
    assert said in capsys.readouterr().err
