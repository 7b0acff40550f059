"""Rollouts in waves, in slots and a round ahead: what may change the numbers and what may not."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from runs.tiny_run import THREE_ROUNDS, TinyRun, assert_same_run, lines, stepjax

from stepjax.options import parse
from stepjax.runs import ppo_sampling


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        (
            *("--config.ppo.waves=2", "--config.ppo.slots=4", "--config.ppo.prefill_rows=4", "--config.mesh.data=4"),
            "--config.ppo.block=8",
        ),
        ("--config.ppo.slots=8", "--config.mesh.data=8", "--config.ppo.micro_tokens=1", "--config.ppo.row_tokens=200"),
    ],
)
def test_waves_slots_blocks_and_packing_change_no_number(tiny, three_rounds, tmp_path, monkeypatch, options):
    workdir = tiny.copy(tmp_path / "run", without=("ppo",))
    told: list[str] = []
    monkeypatch.setattr(ppo_sampling, "phase", told.append)
    assert stepjax("ppo", tiny.config, workdir, *THREE_ROUNDS, *options) == 0
    waves = [f", wave {n} of 2" for n in (1, 2)] if "--config.ppo.waves=2" in options else [""]
    assert told == [f"decoding 16 responses{wave}" for wave in waves] * 3
    for ours, theirs in zip(lines(three_rounds, "ppo"), lines(workdir, "ppo"), strict=True):
        for name in ("true/accuracy", "length/tokens", "kl/reference", "policy/loss", "grad_norm/policy", "entropy"):
            assert theirs[name] == pytest.approx(ours[name], rel=1e-3, abs=1e-6), name
        assert theirs["rollout/occupancy"] > 0.9 and theirs["rollout/steps"] > 0


def stale(tiny: TinyRun, folder: Path) -> tuple[Path, Path]:
    """A config file with stale rollouts, and a work directory that was started with it."""
    changes = {"ppo.stale": True, "ppo.importance_cap": 2.0, "ppo.iterations": 4, "ppo.checkpoint_every": 2}
    folder.mkdir()
    config = tiny.with_options(folder, **changes)
    workdir = tiny.copy(folder / "run", without=("ppo",))
    (workdir / "config.json").write_text(json.dumps(dataclasses.asdict(parse([f"--config={config}"])[0])))
    return config, workdir


@pytest.mark.slow
def test_stale_rollouts_are_weighted_and_a_continued_run_is_the_whole_one(tiny, tmp_path):
    config, whole = stale(tiny, tmp_path / "stale")
    assert stepjax("ppo", config, whole) == 0
    found = lines(whole, "ppo")
    # The second rollout was drawn before the first update, which the learner has left since; the third, after a
    # checkpoint, was not.
    assert found[0]["mismatch/mean"] < 1e-4 < found[1]["mismatch/mean"] and found[2]["mismatch/mean"] < 1e-4
    assert found[3]["mismatch/mean"] > 1e-4
    assert found[0]["importance/mean"] == pytest.approx(1, abs=1e-4)
    assert found[1]["importance/mean"] != pytest.approx(1, abs=1e-5)
    assert 0 <= found[1]["importance/capped"] < 0.5
    parts = tmp_path / "parts"
    shutil.copytree(whole, parts)
    shutil.rmtree(parts / "checkpoints" / "ppo" / "4")
    assert stepjax("ppo", config, parts) == 0
    assert_same_run(parts, whole, ["ppo"])


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"ppo.waves": 3}, "config.ppo.waves"),
        ({"ppo.stale": True}, "config.ppo.importance_cap"),
        ({"ppo.cache_tokens": 10, "ppo.block": 4}, "config.ppo.cache_tokens: 10 tokens a device do not hold"),
    ],
)
def test_what_cannot_be_is_said(tiny, tmp_path, changes, said, capsys):
    config = tiny.with_options(tmp_path, **changes)
    assert stepjax("ppo", config, tmp_path / "run") == 2
    assert said in capsys.readouterr().err
