"""The tokenizer in a checkpoint: what a work directory has lost of its own is restored from there, not made anew."""

import shutil
from pathlib import Path

import pytest
from runs.origin_case import of_file, opened, problems, saved
from runs.tiny_run import TinyRun, stepjax

from stepjax.errors import UserError
from stepjax.runs.opening import open_run
from stepjax.workdir.origin import read_tokenizer


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return problems(tmp_path / "train.jsonl")


def test_a_lost_folder_is_restored(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    config, workdir = of_file(data), saved(of_file(data), tmp_path / "run", "sft")
    folder = workdir / "tokenizer"
    before = read_tokenizer(folder)
    shutil.rmtree(folder)
    data.write_text(data.read_text().replace("and", "xyzzy"))  # one trained anew would differ
    capsys.readouterr()
    with pytest.raises(UserError, match=r"train.jsonl"):
        opened(config, workdir)
    assert read_tokenizer(folder) == before
    told = f"{folder}: the lost folder is restored from {workdir / 'checkpoints' / 'sft' / '1'}\n"
    assert capsys.readouterr().out == told
    opened(config, workdir, accept=True)
    assert read_tokenizer(folder) == before


def test_a_lost_file_is_restored(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    config, workdir = of_file(data), saved(of_file(data), tmp_path / "run", "sft")
    before = read_tokenizer(workdir / "tokenizer")
    (workdir / "tokenizer" / "tokenizer.json").unlink()
    opened(config, workdir)
    assert read_tokenizer(workdir / "tokenizer") == before
    assert f"tokenizer.json is restored from {workdir}" in capsys.readouterr().out


def test_a_changed_file_is_refused_with_its_cure(data: Path, tmp_path: Path) -> None:
    config, workdir = of_file(data), saved(of_file(data), tmp_path / "run", "sft")
    path = workdir / "tokenizer" / "tokenizer.json"
    before = path.read_bytes()
    path.write_bytes(before[: len(before) // 2])
    with pytest.raises(UserError) as refused:
        opened(config, workdir)
    assert str(refused.value).startswith(f"{path.parent}: changed since the checkpoints were saved: tokenizer.json (")
    assert f"remove the folder {path.parent}, and the same command restores it, or" in str(refused.value)
    shutil.rmtree(path.parent)
    opened(config, workdir)
    assert path.read_bytes() == before


def test_an_accepted_tokenizer_is_the_one_that_is_restored(data: Path, tmp_path: Path) -> None:
    config, workdir = of_file(data), saved(of_file(data), tmp_path / "run", "sft")
    path = workdir / "tokenizer" / "tokenizer.json"
    path.write_bytes(path.read_bytes() + b"\n")
    (path.parent / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(UserError, match=r"tokenizer.json .*chat_template.jinja"):
        opened(config, workdir)
    opened(config, workdir, accept=True)
    accepted = read_tokenizer(path.parent)
    shutil.rmtree(path.parent)
    opened(config, workdir)
    assert read_tokenizer(path.parent) == accepted and "chat_template.jinja" in accepted


def test_a_damaged_copy_is_passed_over(data: Path, tmp_path: Path) -> None:
    config, workdir = of_file(data), saved(of_file(data), tmp_path / "run", "sft")
    saved(config, workdir, "sft", step=2)
    before = read_tokenizer(workdir / "tokenizer")
    shutil.rmtree(workdir / "tokenizer")
    copies = [workdir / "checkpoints" / "sft" / step / "origin" / "tokenizer" / "tokenizer.json" for step in "12"]
    copies[1].write_text("{}")
    opened(config, workdir)
    assert read_tokenizer(workdir / "tokenizer") == before
    copies[0].write_text("{}")
    shutil.rmtree(workdir / "tokenizer")
    with pytest.raises(UserError, match=r"tokenizer is lost, and no checkpoint in .* holds a whole copy; put it back"):
        opened(config, workdir)


def test_the_tokenizer_of_a_base_is_checked_and_restored_likewise(data: Path, tmp_path: Path) -> None:
    base = saved(of_file(data), tmp_path / "base", "sft")
    before = read_tokenizer(base / "tokenizer")
    config = of_file(data, base=str(base))
    (base / "tokenizer" / "tokenizer.json").write_bytes(before["tokenizer.json"] + b" ")
    with pytest.raises(UserError, match=r"base/tokenizer: changed since the checkpoints were saved: tokenizer.json"):
        opened(config, tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()
    shutil.rmtree(base / "tokenizer")
    with open_run(config, tmp_path / "run") as run:
        assert read_tokenizer(run.workdir / "tokenizer") == before
    assert not (base / "tokenizer").exists(), "another run's folder is not written to"


def test_every_command_refuses_in_one_line(tiny: TinyRun, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    workdir, before = tiny.copy(tmp_path / "run"), read_tokenizer(tiny.workdir / "tokenizer")
    path = workdir / "tokenizer" / "tokenizer_config.json"
    path.write_bytes(path.read_bytes() + b"\n")
    for command in ("quickstart", "sft", "eval", "label", "export"):
        capfd.readouterr()
        more = [f"--config.out={tmp_path / 'out'}"] if command == "export" else []
        assert stepjax(command, tiny.config, workdir, *more) == 2
        error = capfd.readouterr().err
        assert error.count("\n") == 1 and error.startswith(f"stepjax: {path.parent}: changed since"), error
    shutil.rmtree(path.parent)
    assert stepjax("export", tiny.config, workdir, f"--config.out={tmp_path / 'out'}") == 0
    assert read_tokenizer(path.parent) == before
    assert f"{path.parent}: the lost folder is restored from" in capfd.readouterr().out
