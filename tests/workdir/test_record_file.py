"""Which runs a file of records is continued by: its own, wherever that was moved, and no other one."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from stepjax.data.schema import LabelledSolution
from stepjax.errors import UserError
from stepjax.workdir.record_file import RecordFile

RECORD = LabelledSolution(problem="1+1", steps=("2",), id="a")


def made_with(workdir: Path, weights: str = "one") -> dict[str, Any]:
    policy = {"workdir": str(workdir), "stage": "sft", "weights": {"sft": weights}}
    return {"seed": 0, "workdir": str(workdir), "weights": {"ppo": weights}, "completer": policy}


def there(path: Path, options: dict[str, Any]) -> set[str]:
    with RecordFile(path, options) as file:
        return file.done


@pytest.fixture
def out(tmp_path: Path) -> Path:
    path = tmp_path / "run" / "samples" / "ppo.jsonl"
    with RecordFile(path, made_with(tmp_path / "run")) as file:
        file.append([RECORD])
    return path


def test_a_work_directory_that_was_moved_continues_its_files(tmp_path: Path, out: Path) -> None:
    shutil.move(tmp_path / "run", tmp_path / "moved")
    moved = tmp_path / "moved" / "samples" / "ppo.jsonl"
    assert there(moved, made_with(tmp_path / "moved")) == {"a"}
    with pytest.raises(UserError, match=r"was made with seed=0, not 1; name another config\.label\.out"):
        there(moved, made_with(tmp_path / "moved") | {"seed": 1})


def test_a_copy_whose_models_were_trained_again_does_not(tmp_path: Path, out: Path) -> None:
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    copied = tmp_path / "copy" / "samples" / "ppo.jsonl"
    with pytest.raises(UserError, match=r"was made with weights=\{'ppo': 'one'\}, not \{'ppo': 'other'\}"):
        there(copied, made_with(tmp_path / "copy", "other"))
    nested = made_with(tmp_path / "copy") | {"completer": made_with(tmp_path / "copy", "other")["completer"]}
    with pytest.raises(UserError, match="was made with completer="):
        there(copied, nested)


def test_a_file_elsewhere_belongs_to_one_work_directory(tmp_path: Path) -> None:
    path = tmp_path / "elsewhere.jsonl"
    with RecordFile(path, made_with(tmp_path / "run")) as file:
        file.append([RECORD])
    assert there(path, made_with(tmp_path / "run")) == {"a"}
    with pytest.raises(UserError, match="was made with workdir="):
        there(path, made_with(tmp_path / "other"))


def test_files_of_earlier_versions_name_no_weights(tmp_path: Path, out: Path) -> None:
    beside = out.with_suffix(".options.json")
    before = json.loads(beside.read_text())
    del before["weights"], before["completer"]["weights"]
    beside.write_text(json.dumps(before))
    assert there(out, made_with(tmp_path / "run")) == {"a"}
