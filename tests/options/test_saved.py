"""Commands of a run start from the options that its work directory keeps."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from stepjax import cli
from stepjax.config import Config, StreamOptions
from stepjax.errors import UserError
from stepjax.options import parse
from stepjax.options.changed import changed_lines
from stepjax.options.saved import CONFIG, read_saved

SEED = dataclasses.replace(Config(), seed=5, base="elsewhere")


def saved(folder: Path, options: Any = SEED, **changes: Any) -> Path:
    """A work directory that holds nothing but options."""
    folder.mkdir()
    (folder / CONFIG).write_text(json.dumps(dataclasses.asdict(options) | changes, sort_keys=True))
    return folder


def remembered(*argv: str, told: list[str] | None = None, **more: Any) -> Config:
    return parse(argv, remember=True, tell=(told if told is not None else []).append, **more).config


def test_options_of_a_work_directory_with_the_line_s_on_top(tmp_path):
    folder, told = saved(tmp_path / "run"), list[str]()
    assert remembered(f"--workdir={folder}", told=told) == SEED
    assert told == [f"options: those of {folder / CONFIG}"]
    for argv in (["--workdir", str(folder)], [f"-workdir={folder}"], ["--workdir=no", f"--workdir={folder}"]):
        assert remembered(*argv, "--config.seed=6") == dataclasses.replace(SEED, seed=6)
    assert remembered(home=folder) == SEED and parse([], remember=True, home=folder).workdir is None


def test_a_named_config_takes_their_place_and_a_new_folder_has_the_default(tmp_path):
    folder, told = saved(tmp_path / "run"), list[str]()
    quickstart = parse([]).config
    for argv in ([f"--workdir={folder}", "--config=quickstart"], [f"--workdir={tmp_path / 'new'}"], []):
        assert remembered(*argv, told=told) == quickstart
    assert parse([f"--workdir={folder}"]).config == quickstart, "the command does not remember"
    assert not told


def test_sections_that_are_forgotten_have_their_defaults(tmp_path):
    mesh = dataclasses.replace(SEED.mesh, fsdp=64)
    folder = saved(tmp_path / "run", dataclasses.replace(SEED, mesh=mesh))
    argv = (f"--workdir={folder}", "--config.mesh.tensor=2")
    assert remembered(*argv).mesh == dataclasses.replace(mesh, tensor=2)
    assert remembered(*argv, forget=("mesh",)).mesh == dataclasses.replace(Config().mesh, tensor=2)


def test_options_that_are_gone_are_said_and_new_ones_have_their_default(tmp_path):
    options = json.loads(json.dumps(dataclasses.asdict(SEED)))
    del options["sample"], options["ppo"]["streams"]["process"]["critic_trunk"]
    options["ppo"]["streams"]["process"]["warmth"] = 3
    options["sft"]["colour"], options["taste"] = "red", {"of": {"tea": 1}}
    folder, told = tmp_path / "run", list[str]()
    folder.mkdir()
    (folder / CONFIG).write_text(json.dumps(options))
    assert remembered(f"--workdir={folder}", told=told) == SEED
    assert told[0].endswith("; without sft.colour, ppo.streams.process.warmth, taste, which this version does not have")


@pytest.mark.parametrize(
    ("text", "why"),
    [("{", "cannot be read"), ("[]", "not a JSON object"), ('{"seed": "x"}', "config.seed: must be a whole number")],
)
def test_a_file_that_is_broken_is_one_line(tmp_path, text, why):
    (tmp_path / CONFIG).write_text(text)
    with pytest.raises(UserError, match=why) as error:
        remembered(f"--workdir={tmp_path}")
    assert str(tmp_path / CONFIG) in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(UserError, match="cannot be read"):
        read_saved(tmp_path / "no" / CONFIG)


@pytest.mark.parametrize("command", ["quickstart", "sft", "prm", "ppo", "eval", "label", "sample", "search", "export"])
def test_every_command_of_a_run_remembers(command, tmp_path, monkeypatch, capsys):
    calls: list[Config] = []
    places = ["pipeline.run_stages", "runs.export.export"]
    places += ["labels.command.run_label", "sample.command.run_sample", "search.command.run_search"]
    for place in places:
        monkeypatch.setattr(f"stepjax.{place}", lambda config, *args, **told: calls.append(config))
    folder = saved(tmp_path / "run")
    assert cli.main([command, f"--workdir={folder}"]) == 0
    assert calls == [SEED]
    assert f"options: those of {folder / CONFIG}" in capsys.readouterr().err


def test_changed_options_are_lines_that_give_the_same_config(tmp_path, capsys):
    streams = {"outcome": StreamOptions(signal="outcome", shaping=("bound:0:1",)), "mine": StreamOptions()}
    options = dataclasses.replace(SEED, stages=("ppo",), ppo=dataclasses.replace(SEED.ppo, kl=0.5, streams=streams))
    folder = saved(tmp_path / "run", options)
    lines = changed_lines(options)
    assert "--config.seed=5" in [line.split()[0] for line in lines]
    assert any(line.startswith("--config.ppo.streams.process=none ") for line in lines)
    assert any(
        line.startswith("\"--config.stages=('ppo',)\"") and line.endswith("('sft', 'prm', 'ppo')") for line in lines
    )
    arguments = [line.partition("  #")[0].strip().strip('"') for line in lines]
    plain = tmp_path / "plain.py"
    plain.write_text("from stepjax.options import recipe\n\n\ndef get_config():\n    return recipe()\n")
    assert parse([f"--config={plain}", *arguments]).config == options
    assert cli.main(["options", f"--workdir={folder}", "--changed", "kl"]) == 0
    assert capsys.readouterr().out.splitlines() == ["--config.ppo.kl=0.5  # default: 0.0"]
    assert cli.main(["options", f"--config={plain}", "--changed"]) == 0
    assert capsys.readouterr().out == "all options have their defaults\n"
    assert cli.main(["options", f"--workdir={folder}"]) == 2 and "--changed" in capsys.readouterr().err
    assert cli.main(["options", f"--workdir={tmp_path / 'none'}", "--changed"]) == 2
    assert "no run has begun there" in capsys.readouterr().err
