"""`ppo.export_every`: folders that other software loads while the run goes on."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from runs.tiny_run import TinyRun, arrays, assert_same_run, stepjax

from stepjax.cli import main
from stepjax.models import load_pretrained
from stepjax.options import parse
from stepjax.runs.export import EXPORTED
from stepjax.runs.model_card import CARD

ROUNDS = ("--config.ppo.iterations=3", "--config.ppo.checkpoint_every=2", "--config.ppo.export_every=1")


def names(workdir: Path) -> list[str]:
    return sorted(path.name for path in (workdir / EXPORTED).iterdir())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_every_round_a_folder_that_is_the_export_of_its_checkpoint(
    tiny: TinyRun, three_rounds: Path, tmp_path: Path
) -> None:
    workdir = tiny.copy(tmp_path / "run", without=("ppo",))
    assert stepjax("ppo", tiny.config, workdir, *ROUNDS) == 0
    assert names(workdir) == ["2", "3"], "the last two stay"
    assert main(["export", f"--workdir={workdir}", f"--config.out={tmp_path / 'out'}"]) == 0
    (tmp_path / "out" / CARD).unlink()
    assert contents(workdir / EXPORTED / "3") == contents(tmp_path / "out")
    model = load_pretrained(workdir / EXPORTED / "2")
    np.testing.assert_array_equal(
        model.params["trunk"]["layers"]["query"], arrays(workdir, "ppo", 2)["policy/params/trunk/layers/query"]
    )
    assert_same_run(workdir, three_rounds, ["ppo"])

    # Killed while the third was written: what is whole stays as it is, the rest is removed.
    shutil.rmtree(workdir / "checkpoints" / "ppo" / "3")
    (workdir / EXPORTED / "3").rename(workdir / EXPORTED / "3.partial")
    (workdir / EXPORTED / "3.partial" / "rest").touch()
    before = (workdir / EXPORTED / "2").stat().st_ino
    assert stepjax("ppo", tiny.config, workdir, *ROUNDS) == 0
    assert names(workdir) == ["2", "3"] and (workdir / EXPORTED / "2").stat().st_ino == before
    assert contents(workdir / EXPORTED / "3") == contents(tmp_path / "out")

    # Killed between an export and its checkpoint: the round comes again, its folder is not written again.
    shutil.rmtree(workdir / "checkpoints" / "ppo" / "3")
    before = (workdir / EXPORTED / "3").stat().st_ino
    assert stepjax("ppo", tiny.config, workdir, *ROUNDS) == 0
    assert names(workdir) == ["2", "3"] and (workdir / EXPORTED / "3").stat().st_ino == before


@pytest.mark.slow
def test_adapters_are_merged(tiny: TinyRun, tmp_path: Path) -> None:
    changes = {"lora.rank": 2, "lora.modules": ("query", "down"), "ppo.policy.lr": 1e-2, "ppo.iterations": 1}
    config = tiny.with_options(tmp_path, **changes, **{"ppo.export_every": 1, "ppo.export_keep": 0})
    workdir = tiny.copy(tmp_path / "run", without=("prm", "ppo"))
    (workdir / "config.json").write_text(json.dumps(dataclasses.asdict(parse([f"--config={config}"])[0])))
    assert stepjax("prm", config, workdir) == 0
    assert stepjax("ppo", config, workdir) == 0
    assert main(["export", f"--workdir={workdir}", f"--config.out={tmp_path / 'out'}"]) == 0
    (tmp_path / "out" / CARD).unlink()
    assert contents(workdir / EXPORTED / "1") == contents(tmp_path / "out")
    base, merged = arrays(workdir, "sft"), load_pretrained(workdir / EXPORTED / "1").params["trunk"]["layers"]
    assert (np.asarray(merged["query"]) != base["params/trunk/layers/query"]).any()
    np.testing.assert_array_equal(merged["key"], base["params/trunk/layers/key"])


def test_a_folder_that_cannot_be_written_is_one_line(
    tiny: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workdir = tiny.copy(tmp_path / "run", without=("ppo",))
    (workdir / EXPORTED).write_text("a file in its place")
    assert stepjax("ppo", tiny.config, workdir, *ROUNDS) == 2
    error = capsys.readouterr().err
    assert f"{workdir / EXPORTED}" in error and "cannot be written" in error and "Traceback" not in error
