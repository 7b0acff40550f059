"""Datasets on disk: TFDS reads what is written, half of one never looks whole, statistics count what is in it."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from data.labelled import solutions
from hypothesis import given, settings
from hypothesis import strategies as st

from stepjax.cli import main
from stepjax.config import DataOptions
from stepjax.data.command import convert
from stepjax.data.dataset import Records, splits
from stepjax.data.dataset_writer import DatasetWriter
from stepjax.data.features import from_row
from stepjax.data.schema import LabelledSolution, line
from stepjax.data.statistics import Lengths, Statistics
from stepjax.errors import UserError

HERE = Path(__file__).parent


@given(st.lists(solutions(), min_size=1, max_size=12), st.integers(1, 5), st.data())
@settings(max_examples=8, deadline=None)
def test_tfds_reads_all_that_was_written_in_order(tmp_path_factory, records, shards, data):
    import tensorflow_datasets as tfds

    folder = tmp_path_factory.mktemp("data") / "set"
    of = data.draw(st.lists(st.sampled_from(["train", "valid"]), min_size=len(records), max_size=len(records)))
    with DatasetWriter(folder, name="records", shards=shards) as writer:
        for record, split in zip(records, of, strict=True):
            writer.write(record, split)
    builder = tfds.builder_from_directory(str(folder))
    assert set(splits(folder)) == set(of) == set(builder.info.splits)
    for split in set(of):
        wanted = [record for record, s in zip(records, of, strict=True) if s == split]
        assert [from_row(row) for row in builder.as_data_source(split)] == wanted == list(Records(folder, split))
        assert builder.info.splits[split].num_shards == min(shards, len(wanted))
    assert not list(folder.glob("*.records")) and "tensorflow" not in sys.modules


def test_every_sample_survives_the_way_through_tfds(tmp_path):
    for source, folder in (("prm800k", "prm800k"), ("prmbench", "prmbench"), ("gsm8k", "gsm8k"), ("math", "math")):
        path = HERE / folder
        files = sorted(path.glob("*.jsonl"))
        out, copy = tmp_path / source, tmp_path / f"{source}.jsonl"
        convert(DataOptions(source=source, path=str(path), out=str(out), held_out=0.3))
        convert(DataOptions(source=source, path=str(path), out=str(copy), held_out=0.3))
        for split in splits(out):
            file = copy if split == "train" else copy.with_suffix(f".{split}.jsonl")
            assert list(Records(out, split)) == list(Records(file)) and files
        groups = [{r.group_key for r in Records(out, split)} for split in splits(out)]
        assert len(set().union(*groups)) == sum(map(len, groups)), "a problem in two splits"


def test_records_by_random_access(tmp_path):
    records = [LabelledSolution(f"p{i}", ("é",) * i, ratings=(1,) * i) for i in range(5)]
    path = tmp_path / "r.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + "\n".join(["", *map(line, records)]).encode().rstrip(b"\n"))
    with DatasetWriter(tmp_path / "set", name="records", shards=2) as writer:
        for record in records:
            writer.write(record)
    for found in (Records(path), Records(tmp_path / "set"), pickle.loads(pickle.dumps(Records(tmp_path / "set")))):
        assert len(found) == 5 and found[3] == records[3] and found[-1] == records[-1] and found[1:3] == records[1:3]
        with pytest.raises(IndexError):
            found[5]
    with pytest.raises(UserError, match="no split 'test'; it has train"):
        Records(tmp_path / "set", "test")
    with pytest.raises(UserError, match=r"not a dataset \(no dataset_info.json\)"):
        Records(tmp_path)
    with pytest.raises(UserError, match="cannot be read"):
        Records(tmp_path / "none.jsonl")
    path.write_text(line(records[0]) + '{"problem": 1, "steps": []}\n')
    with pytest.raises(UserError, match=r"r\.jsonl:2: problem: must be text"):
        Records(path)[1]


def test_nothing_is_replaced_unasked_and_nothing_but_a_dataset(tmp_path):
    options = {"source": "gsm8k", "path": str(HERE / "gsm8k"), "out": str(tmp_path / "set")}
    convert(DataOptions(**options))
    with pytest.raises(UserError, match=r"exists already; name another folder, or set config\.data\.overwrite=True"):
        convert(DataOptions(**options))
    convert(DataOptions(**options, overwrite=True, shards=1))
    assert len(list((tmp_path / "set").glob("*.array_record*"))) == 2, "train and test, a shard each"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(UserError, match="it is not a TFDS dataset, so it is not replaced"):
        convert(DataOptions(**{**options, "out": str(tmp_path / "mine")}, overwrite=True))
    assert (tmp_path / "mine" / "thesis.tex").exists()


@pytest.mark.parametrize("out", ["set", "set.jsonl"])
def test_the_files_of_a_folder_keep_their_splits(tmp_path, out):
    """A folder laid out as GSM8K's: problems of test must not get into train."""
    folder = tmp_path / "problems"
    folder.mkdir()
    counts = {"train.jsonl": 40, "test.jsonl": 5, "my_dev.jsonl": 3, "contest.jsonl": 2}
    for name, count in counts.items():
        rows = [{"question": f"{name} {i}", "answer": "1+1=2\n#### 2"} for i in range(count)]
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = convert(DataOptions(source="gsm8k", path=str(folder), out=str(tmp_path / out), held_out=0.5))
    found = {split: of["records"] for split, of in report["splits"].items()}
    assert found["test"] == 5 and found["train"] + found["valid"] == 45 and 3 < found["valid"] < 42
    paths = {s: tmp_path / (out if s == "train" or out == "set" else f"set.{s}.jsonl") for s in found}
    records = {s: list(Records(path, s if out == "set" else "train")) for s, path in paths.items()}
    assert {r.problem for r in records["test"]} == {f"test.jsonl {i}" for i in range(5)}
    assert {f"my_dev.jsonl {i}" for i in range(3)} <= {r.problem for r in records["valid"]}
    assert any(r.problem.startswith("contest") for s in ("train", "valid") for r in records[s])
    alone = convert(DataOptions(source="gsm8k", path=str(folder / "test.jsonl")))
    assert list(alone["splits"]) == ["train"], "a single file is what the user makes of it"


def test_an_error_leaves_no_dataset(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text(line(LabelledSolution("p", ("a",))) + "{\n")
    for out in ("set", "set.jsonl"):
        with pytest.raises(UserError, match=r"bad\.jsonl:2: not JSON"):
            convert(DataOptions(source="records", path=str(path), out=str(tmp_path / out)))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.jsonl"]
    path.write_text("{\n")
    with pytest.raises(UserError, match="no records in 1 rows; left out: 1 malformed rows, set aside"):
        convert(DataOptions(source="records", path=str(path), skip_bad=str(tmp_path / "aside.jsonl")))


def test_a_conversion_that_is_killed_leaves_no_dataset(tmp_path):
    path, out = tmp_path / "rows.jsonl", tmp_path / "set"
    path.write_text("".join(line(LabelledSolution(f"p{i}", ("a",))) for i in range(50_000)))
    command = ["data", "--config.source=records", f"--config.path={path}", f"--config.out={out}"]
    process = subprocess.Popen([sys.executable, "-m", "stepjax.cli", *command], stdout=subprocess.DEVNULL)
    spool, deadline = tmp_path / "set.partial" / "train.records", time.monotonic() + 60
    while not (spool.exists() and spool.stat().st_size > 10_000):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not out.exists() and (tmp_path / "set.partial").exists()
    path.write_text(line(LabelledSolution("p", ("a",))))
    assert main(command) == 0
    assert len(Records(out)) == 1 and not (tmp_path / "set.partial").exists()


def test_the_command_prints_counts_and_drops(tmp_path, capsys):
    out = tmp_path / "set"
    source = ["--config.source=prmbench", f"--config.path={HERE / 'prmbench'}", f"--config.out={out}"]
    assert main(["data", *source]) == 0
    printed = capsys.readouterr().out
    assert "train: 8 solutions" in printed and "first error" in printed
    assert "left out: 3 original solutions given before, 1 solutions whose error_steps lie beyond" in printed
    report = json.loads((out / "statistics.json").read_text())
    assert report["rows"] == 6 and report["splits"]["train"]["records"] == 8
    labels = report["splits"]["train"]["labels"]
    assert labels["good"] + labels["bad"] == report["splits"]["train"]["steps"]
    assert main(["data", "--config.data.sauce=x"]) == 2
    assert "no such option" in capsys.readouterr().err


def test_statistics():
    statistics = Statistics(tokens=len)
    statistics.add(
        LabelledSolution("pp", ("a", "bb", "c"), ratings=(1, -1, None), values=(None, None, 1.0), first_error=1)
    )
    statistics.add(LabelledSolution("p", ("a",) * 20, ratings=(0,) * 20, first_error=-1, correct=True))
    found = statistics.to_json()
    assert found["records"] == 2 and found["steps"] == 23
    assert found["labels"] == {"good": 1, "neutral": 20, "bad": 1, "value": 1}
    assert found["labels_by_position"]["17+"] == {"good": 0, "neutral": 4, "bad": 0, "value": 0}
    assert found["first_error"] == {"none": 1, "2": 1} and found["outcomes"] == {"unknown": 1, "right": 1}
    assert found["values_in_tenths"] == [0] * 9 + [1]
    assert found["lengths"]["tokens a step"]["largest"] == 2 and found["lengths"]["steps a solution"]["mean"] == 11.5


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=200))
def test_quantiles_of_lengths_are_near(values):
    lengths = Lengths()
    for value in values:
        lengths.add(value)
    exact = sorted(values)[max(-(-len(values) // 2) - 1, 0)]
    assert abs(lengths.quantile(0.5) - exact) <= 0.03 * exact + 1
    assert lengths.largest == max(values) and lengths.mean == pytest.approx(sum(values) / len(values))
