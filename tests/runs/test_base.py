"""A run that builds on another one's stages."""

import json
from pathlib import Path

import pytest
from runs.tiny_run import OPTIONS, THREE_ROUNDS, TinyRun, arrays, lines, stepjax, write_config

from stepjax.cli import main
from stepjax.config import Config
from stepjax.errors import UserError
from stepjax.runs.base import check_base
from stepjax.runs.start import recall


@pytest.mark.slow
def test_ppo_builds_on_another_runs_sft_and_prm(tiny: TinyRun, tmp_path: Path) -> None:
    built = write_config(tmp_path / "built.py", {**OPTIONS, "base": str(tiny.workdir), "ppo.iterations": 12})
    assert stepjax("ppo", built, tmp_path / "run") == 0
    assert sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir()) == ["ppo"], "no stage is copied"
    assert lines(tmp_path / "run", "ppo") == lines(tiny.workdir, "ppo"), "the same as where it was trained"
    found, expected = arrays(tmp_path / "run", "ppo"), arrays(tiny.workdir, "ppo")
    assert all(found[name].tobytes() == expected[name].tobytes() for name in expected)
    assert stepjax("eval", built, tmp_path / "run") == 0
    measured, theirs = (json.loads((folder / "eval.json").read_text()) for folder in (tmp_path / "run", tiny.workdir))
    assert measured["rows"] == theirs["rows"] and measured["prm"] == theirs["prm"]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"base": "nowhere"}, "config.base=nowhere: nowhere/config.json cannot be read (No such file or directory)"),
        ({"model.mlp": 32}, "it has model.mlp=64, this run 32; set config.model.mlp=64"),
        (
            {"lora.rank": 2, "lora.stages": ("sft", "prm", "ppo")},
            "its stage sft trained all parameters, this run's lora.rank is 2; leave sft out: "
            "--config.lora.stages=\"('prm', 'ppo')\"",
        ),
        ({"prm.reader_layers": 1}, "it has prm.reader_layers=0, this run 1; set config.prm.reader_layers=0"),
        ({"prm.run": "nowhere"}, "config.prm.run=nowhere: nowhere/config.json cannot be read"),
    ],
)
def test_a_base_that_does_not_fit_is_named(
    tiny: TinyRun, tmp_path: Path, capfd: pytest.CaptureFixture, change: dict, message: str
) -> None:
    built = write_config(tmp_path / "built.py", {**OPTIONS, "base": str(tiny.workdir), **change})
    assert stepjax("ppo", built, tmp_path / "run") == 2
    error = capfd.readouterr().err
    assert message in error and "Traceback" not in error
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.slow
def test_a_prm_of_its_own_may_differ_from_the_bases(tiny: TinyRun, tmp_path: Path) -> None:
    changes = {"base": str(tiny.workdir), "prm.classes": 2, "prm.target": "value", "prm.updates": 2}
    built = write_config(tmp_path / "built.py", {**OPTIONS, **changes})
    assert stepjax("prm", built, tmp_path / "run") == 0
    assert stepjax("ppo", built, tmp_path / "run", "--config.ppo.iterations=1") == 0, "it reads its own"


@pytest.mark.slow
def test_the_prm_may_be_of_another_run_than_the_policy(tiny: TinyRun, three_rounds: Path, tmp_path: Path) -> None:
    base = tiny.copy(tmp_path / "base", without=("prm", "ppo"))
    built = write_config(tmp_path / "built.py", {**OPTIONS, "base": str(base), "prm.run": str(tiny.workdir)})
    assert stepjax("ppo", built, tmp_path / "run", *THREE_ROUNDS) == 0
    assert lines(tmp_path / "run", "ppo") == lines(three_rounds, "ppo"), "the same as with both from one run"


@pytest.mark.parametrize(
    ("stage", "change", "message"),
    [
        ("prm", {}, "stage prm would train another model than the one that it names; leave one of the two out"),
        ("ppo", {"prm.path": "x", "prm.convention": "qwen"}, "config.prm.path: not with prm.run="),
        ("ppo", {"prm.reader_layers": 1}, "config.prm.run={run}: it has prm.reader_layers=0, this run 1"),
    ],
)
def test_a_prm_of_another_run_that_does_not_fit_is_named(
    tiny: TinyRun, tmp_path: Path, capfd: pytest.CaptureFixture, stage: str, change: dict, message: str
) -> None:
    run = str(tiny.workdir)
    built = write_config(tmp_path / "built.py", {**OPTIONS, "base": run, "prm.run": run, **change})
    assert stepjax(stage, built, tmp_path / "run") == 2
    error = capfd.readouterr().err
    assert message.format(run=run) in error and "Traceback" not in error


def test_a_prm_with_another_tokenizer_is_refused(tiny: TinyRun, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    other = tiny.copy(tmp_path / "other", without=("ppo",))
    vocab = (other / "tokenizer" / "tokenizer.json").read_text()
    (other / "tokenizer" / "tokenizer.json").write_text(vocab.replace('"*"', '"§"'))
    built = write_config(tmp_path / "built.py", {**OPTIONS, "base": str(tiny.workdir), "prm.run": str(other)})
    assert stepjax("ppo", built, tmp_path / "run") == 2
    assert "its tokenizer differs from this run's" in capfd.readouterr().err


def test_a_base_whose_stage_is_not_finished_is_named(
    tiny: TinyRun, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    base = tiny.copy(tmp_path / "base", without=("ppo",))
    theirs = json.loads((base / "config.json").read_text())
    theirs["sft"]["updates"] += 50
    (base / "config.json").write_text(json.dumps(theirs))
    built = write_config(tmp_path / "built.py", {**OPTIONS, "base": str(base)})
    assert stepjax("ppo", built, tmp_path / "run") == 2
    updates = OPTIONS["sft.updates"]
    assert f"{base}: stage sft is at update {updates} of {updates + 50}" in capfd.readouterr().err


@pytest.mark.parametrize("content", ["[" * 100_000, "[]", '{"model": [1]}', '{"model": {}, "prm": 3}', "\\"])
def test_a_base_whose_config_is_damaged_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config\.json cannot be read \(not a config that stepjax wrote\)"):
        check_base(Config(base=str(tmp_path)))


@pytest.mark.parametrize("content", ["[" * 100_000, "[]", "{}", '{"config": 3}'])
def test_a_damaged_record_of_the_start_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "start.json").write_text(content)
    with pytest.raises(UserError, match=r"start\.json: not what stepjax writes"):
        recall(tmp_path)


def test_a_config_that_needs_a_base_is_refused_without_one(tmp_path: Path, capsys) -> None:
    assert main(["ppo", "--config=credit_arms:outcome", "--config.mesh.data=1", f"--workdir={tmp_path / 'run'}"]) == 2
    error = capsys.readouterr().err
    assert "config.base: this config goes on from a stage sft that another run trained" in error
    assert not (tmp_path / "run").exists(), "a refused command leaves nothing"
