"""The file of labels: nothing lost or doubled, half a line mended, never two ways of labelling in one."""

import dataclasses
import json
import os

import pytest

from stepjax.config import PromptOptions
from stepjax.data.schema import LabelledSolution, line
from stepjax.errors import UserError
from stepjax.judges.cost import Cost
from stepjax.labels.file import LabelFile


def record(name, **more):
    extra = {"cost": {"completions": 2, "tokens": 7, "money": 0.5}}
    return LabelledSolution("p", ("a", "b"), ratings=(1, -1), id=name, extra=extra, **more)


def test_records_are_appended_and_found_again(tmp_path):
    path = tmp_path / "new" / "labels.jsonl"
    with LabelFile(path, {"n": 8}) as file:
        file.append([record("x"), record("y")])
        file.append([record("y"), LabelledSolution("p", ("a",), id="z")])
        assert path.read_bytes().count(b"\n") == 3  # with the system at once
    with LabelFile(path, {"n": 8}) as file:
        assert file.done == {"x", "y", "z"} and file.unlabelled == 1
        assert file.cost == Cost(4, 14) and file.money == 1.0


@pytest.mark.parametrize("cut", [1, 30, -1])
def test_half_a_line_is_cut_off(tmp_path, cut):
    path = tmp_path / "labels.jsonl"
    with LabelFile(path, {"n": 8}) as file:
        file.append([record("x")])
    whole = path.read_bytes()
    with open(path, "ab") as half:
        half.write(line(record("y")).encode()[:cut])
    with LabelFile(path, {"n": 8}) as file:
        assert file.done == {"x"} and path.read_bytes() == whole
        file.append([record("y")])
    assert [json.loads(row)["id"] for row in path.read_text().splitlines()] == ["x", "y"]


def test_what_cannot_be_continued_is_named(tmp_path):
    path = tmp_path / "labels.jsonl"
    with LabelFile(path, {"n": 8, "seed": 0}) as file:
        file.append([record("x")])
        with pytest.raises(UserError, match="in use"):
            LabelFile(path, {"n": 8, "seed": 0})
    with pytest.raises(UserError, match=r"made with n=8, not 16"):
        LabelFile(path, {"n": 16, "seed": 0})
    with open(path, "a") as file:
        file.write(line(record("x")))
    with pytest.raises(UserError, match=r"labels.jsonl:2: its id occurs twice"):
        LabelFile(path, {"n": 8, "seed": 0})
    path.write_text("{}\n")
    with pytest.raises(UserError, match=r"labels.jsonl:1: no field 'problem'"):
        LabelFile(path, {"n": 8, "seed": 0})
    other = tmp_path / "other.jsonl"
    other.write_text(line(record("x")))
    with pytest.raises(UserError, match="did not make this file"):
        LabelFile(other, {})
    with pytest.raises(UserError, match="cannot be used"):
        LabelFile(tmp_path / "labels.jsonl" / "under.jsonl", {})


def test_an_empty_file_takes_new_options(tmp_path):
    path = tmp_path / "labels.jsonl"
    LabelFile(path, {"n": 8}).close()
    LabelFile(path, {"n": 16}).close()
    assert json.loads(path.with_suffix(".options.json").read_text()) == {"n": 16}
    assert not os.path.exists(path) or path.stat().st_size == 0


def test_an_option_of_prompts_that_a_file_of_an_earlier_version_does_not_name_has_its_default(tmp_path):
    path, usual = tmp_path / "labels.jsonl", dataclasses.asdict(PromptOptions())
    older = {name: value for name, value in usual.items() if name != "structure"}
    for made_with in ({"prompt": older}, {"prompt": usual}, {"prompt": {}}):
        with LabelFile(path, made_with) as file:
            file.append([record("x")])
    with pytest.raises(UserError, match=r"was made with prompt="), LabelFile(path, {"prompt": usual | {"shots": 1}}):
        pass
