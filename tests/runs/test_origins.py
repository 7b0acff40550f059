"""What a checkpoint was made of: a continuation with other files names them and refuses, or is told to go on."""

import dataclasses
import importlib
import os
import shutil
from pathlib import Path

import pytest
from runs.origin_case import of_file, opened, problems, record, saved

from stepjax.config import PPOOptions, PRMOptions, StreamOptions
from stepjax.errors import UserError
from stepjax.models.checkpoint_folder import CheckpointFolder
from stepjax.runs import origin_parts, origins
from stepjax.runs.opening import open_run
from stepjax.runs.origin_parts import EXPORTING, READING, parts_of
from stepjax.workdir.fingerprints import bytes_print


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return problems(tmp_path / "train.jsonl")


def test_a_changed_data_file_is_named_and_refused(data: Path, tmp_path: Path) -> None:
    config, workdir = of_file(data), tmp_path / "run"
    saved(config, workdir, "sft", "ppo")
    before, size = bytes_print(data.read_bytes()), data.stat().st_size
    opened(config, workdir)
    problems(data, last=8)  # of the same size
    now = bytes_print(data.read_bytes())
    with pytest.raises(UserError) as refused:
        opened(config, workdir)
    then_and_now = [f"{size:,} bytes, sha256 {each['sha256'][:8]}…" for each in (before, now)]
    assert str(refused.value) == (
        f"{workdir}: changed since stages sft, ppo were saved: {data} ({then_and_now[0]} then, {then_and_now[1]} now); "
        "put back what was there, or go on with what is here: --accept-changed"
    )
    problems(data)
    opened(config, workdir)


def test_an_accepted_change_is_said_and_recorded(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    config, workdir = of_file(data), tmp_path / "run"
    saved(config, workdir, "sft")
    before = bytes_print(data.read_bytes())
    problems(data, last=123)
    capsys.readouterr()
    opened(config, workdir, accept=True)
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and said.startswith("--accept-changed: stage sft goes on with") and str(data) in said
    change = {"step": 1, "kind": "data", "name": str(data), "from": before, "to": bytes_print(data.read_bytes())}
    assert record(workdir, "sft").changes == [change]
    opened(config, workdir)
    opened(config, workdir, accept=True)
    assert capsys.readouterr().out == ""
    saved(config, workdir, "sft", step=2)
    assert record(workdir, "sft").changes == [change], "a later checkpoint remembers it"


def test_what_a_stage_never_read_may_change(data: Path, tmp_path: Path) -> None:
    labelled = tmp_path / "labelled.jsonl"
    labelled.write_text("{}\n")
    config, workdir = of_file(data, prm=PRMOptions(data=str(labelled))), tmp_path / "run"
    saved(config, workdir, "sft")
    labelled.write_text("{}\n{}\n")
    saved(config, workdir, "prm")
    labelled.write_text("{}\n")
    with pytest.raises(UserError, match=f"since stage prm was saved: {labelled} "):
        opened(config, workdir)
    opened(config, workdir, kinds=EXPORTING)


def test_data_that_is_not_on_this_machine_is_no_change(data: Path, tmp_path: Path) -> None:
    config, workdir = of_file(data), tmp_path / "run"
    saved(config, workdir, "sft")
    data.rename(tmp_path / "away")
    opened(config, workdir, kinds=READING)
    (tmp_path / "away").rename(data)
    opened(config, workdir)
    problems(data, last=7)
    with pytest.raises(UserError, match=r"train.jsonl"):
        opened(config, workdir, kinds=READING)


def test_a_grader_that_is_not_on_this_machine_does_not_matter_to_an_export(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "graders_elsewhere.py").write_text("def grade(response, answer):\n    return True\n")
    config, workdir = of_file(data), tmp_path / "run"
    config = dataclasses.replace(config, task=dataclasses.replace(config.task, grader="graders_elsewhere:grade"))
    saved(config, workdir, "sft")
    (tmp_path / "graders_elsewhere.py").unlink()
    opened(config, workdir, kinds=EXPORTING)
    with pytest.raises(UserError, match=r"config\.task\.grader: graders_elsewhere cannot be imported"):
        opened(config, workdir, kinds=READING)


def test_an_earlier_stage_that_was_trained_again_is_named(data: Path, tmp_path: Path) -> None:
    config, workdir = of_file(data), tmp_path / "run"
    saved(config, workdir, "sft", "prm", "ppo")
    shutil.rmtree(workdir / "checkpoints" / "sft")
    with pytest.raises(UserError, match=r"stages prm, ppo were saved: stage sft \(step 1, .* then, none now\)"):
        saved(config, workdir, "sft", value=2.0)


def test_the_base_is_part_of_what_a_stage_was_made_of(data: Path, tmp_path: Path) -> None:
    base = saved(of_file(data), tmp_path / "base", "sft")
    config, workdir = of_file(data, base=str(base)), tmp_path / "run"
    saved(config, workdir, "ppo")
    assert record(workdir, "ppo").parts["stages"]["stage sft"]["step"] == 1
    saved(of_file(data), base, "sft", step=2, value=3.0)
    with pytest.raises(UserError, match=r"stage ppo was saved: stage sft \(step 1, .* then, step 2, .* now\)"):
        opened(config, workdir)
    opened(config, workdir, accept=True)
    opened(config, workdir)


def test_the_pretrained_model_is_part_of_it(data: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for name in ("config.json", "model.safetensors", "README.md"):
        (model / name).write_text(name)
    with open_run(of_file(data), tmp_path / "run") as run:
        started = dataclasses.replace(run, start=CheckpointFolder("model", model, {}), prints={})
        found = parts_of(started, "sft", ("model",), {})["model"]
        assert list(found) == ["model/config.json", "model/model.safetensors"]
        (model / "model.safetensors").write_text("other numbers")
        started = dataclasses.replace(started, prints={})
        assert parts_of(started, "sft", ("model",), {})["model"] != found


def test_a_rater_of_steps_is_part_of_ppo(data: Path, tmp_path: Path) -> None:
    (tmp_path / "rater").mkdir()
    (tmp_path / "rater" / "config.json").write_text("{}")
    prm = PRMOptions(path=str(tmp_path / "rater"), convention="qwen")
    config, workdir = of_file(data, prm=prm), tmp_path / "run"
    saved(config, workdir, "sft", "ppo")
    (tmp_path / "rater" / "config.json").write_text("{ }")
    with pytest.raises(UserError, match=r"since stage ppo was saved: .*/rater/config.json "):
        opened(config, workdir)


def test_the_module_of_a_reward_function_is_part_of_ppo(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / "origin_rewards.py"
    module.write_text("def brief(prompts, responses, steps):\n    return [1.0 for _ in responses]\n")
    stream = StreamOptions(signal="function", horizon="response", function="origin_rewards:brief")
    config, workdir = of_file(data, ppo=PPOOptions(streams={"brief": stream})), tmp_path / "run"
    saved(config, workdir, "sft", "ppo")
    module.write_text(module.read_text().replace("1.0", "2.0"))
    with pytest.raises(UserError, match=r"since stage ppo was saved: origin_rewards:brief "):
        opened(config, workdir)
    module.unlink()
    importlib.invalidate_caches()
    opened(config, workdir, kinds=READING)


def test_checkpoints_of_an_earlier_version_are_recorded_once(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    config, workdir = of_file(data), tmp_path / "run"
    saved(config, workdir, "sft", "ppo")
    for stage in ("sft", "ppo"):
        shutil.rmtree(workdir / "checkpoints" / stage / "1" / "origin")
    capsys.readouterr()
    opened(config, workdir)
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and said.startswith("stages sft, ppo: saved without fingerprints")
    opened(config, workdir)
    assert capsys.readouterr().out == ""
    assert "code" not in record(workdir, "sft").parts, "nobody knows which code made it"
    problems(data, last=1)
    with pytest.raises(UserError, match=r"train.jsonl"):
        opened(config, workdir)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"parts": {}}',
        '{"parts": [], "changes": []}',
        '{"parts": {"data": {"x": {"size": "3", "sha256": "a"}}}, "changes": []}',
        '{"parts": {"data": {"x": {"size": 3, "sha256": 1}}}, "changes": []}',
        '{"parts": {"data": {"x": 3}}, "changes": []}',
        '{"parts": {"code": {"stepjax": {"version": 1}}}, "changes": []}',
        '{"parts": {}, "changes": [1]}',
    ],
)
def test_a_damaged_record_counts_as_none(data: Path, tmp_path: Path, text: str, capsys: pytest.CaptureFixture) -> None:
    config, workdir = of_file(data), tmp_path / "run"
    saved(config, workdir, "sft")
    (workdir / "checkpoints" / "sft" / "1" / "origin" / "origin.json").write_text(text)
    capsys.readouterr()
    opened(config, workdir)
    assert capsys.readouterr().out.startswith("stage sft: saved without fingerprints")
    assert str(data) in record(workdir, "sft").parts["data"]


def code(version: str, source: str) -> dict[str, str]:
    return {"version": version, "commit": "", "source": source}


def test_another_release_is_refused_and_other_source_is_said(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    config, workdir = of_file(data), tmp_path / "run"
    monkeypatch.setattr(origin_parts, "code_version", lambda: code("1.0", "aaaaaaaaaa"))
    saved(config, workdir, "sft")
    monkeypatch.setattr(origin_parts, "code_version", lambda: code("1.0", "bbbbbbbbbb"))
    capsys.readouterr()
    saved(config, workdir, "sft", step=2)
    said = capsys.readouterr().out
    assert said == "stage sft was begun by stepjax 1.0 (source aaaaaaaa) and is continued by 1.0 (source bbbbbbbb)\n"
    assert [change["kind"] for change in record(workdir, "sft").changes] == ["code"]
    saved(config, workdir, "sft", step=3)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(origin_parts, "code_version", lambda: code("2.0", "cccccccccc"))
    with pytest.raises(UserError, match=r"since stage sft was saved: stepjax \(1.0 then, 2.0 now\); "):
        opened(config, workdir)
    opened(config, workdir, kinds=READING)
    opened(config, workdir, accept=True)
    opened(config, workdir)


def test_files_are_read_once_in_a_command(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, workdir = of_file(data), tmp_path / "run"
    saved(config, workdir, "sft", "ppo")
    read: list[str] = []
    whole = origin_parts.prints_of
    monkeypatch.setattr(origin_parts, "prints_of", lambda files, **told: (read.extend(files), whole(files, **told))[1])
    with open_run(config, workdir) as run:
        origins.StageOrigin(run, "ppo").begin()
    assert read == [str(data)] and os.path.exists(data)
