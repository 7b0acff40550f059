"""Rows of every reader with anything in them: read, or one line with file and row, or set aside where that is asked."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from fuzz.commands import assert_readable, command, elsewhere, refused
from fuzz.fuzzing import Fuzz
from fuzz.junk import ANY_TEXT, JSON, changed, damaged
from hypothesis import strategies as st

from stepjax.config import DataOptions
from stepjax.data.dataset import Records
from stepjax.data.jsonl import read_jsonl
from stepjax.data.readers import READERS, read_records
from stepjax.data.readers.base import Tally
from stepjax.data.schema import LabelledSolution, line
from stepjax.errors import UserError
from stepjax.tasks.gsm8k import GSM8K
from stepjax.tasks.jsonl import JsonlProblems
from stepjax.tasks.labelled import LabelledProblems

FUZZ = Fuzz(share=0.25)

PRM800K = json.loads((Path(__file__).parents[1] / "data" / "prm800k" / "samples.jsonl").read_text().splitlines()[0])
GOOD: dict[str, dict[str, Any]] = {
    "prm800k": PRM800K,
    "math_shepherd": {
        "input": "2 + 3? Step 1: 2 + 3 = 5 ки\nStep 2: The answer is: 5 ки",
        "label": "2 + 3? Step 1: 2 + 3 = 5 +\nStep 2: The answer is: 5 -",
        "task": "GSM8K",
    },
    "omegaprm": {
        "question": "2 + 3?",
        "final_answer": "5",
        "question_id": 7,
        "reasoning_steps": [
            {"solution_prefix": "2 + 3?", "mc_value": 0.5},
            {"solution_prefix": "2 + 3? It is \\boxed{5}.", "mc_value": 1},
        ],
    },
    "trl": {"prompt": "2 + 3?", "completions": ["2 + 3 = 5", "5"], "labels": [True, False], "id": "a"},
    "processbench": {
        "id": "a",
        "problem": "2 + 3?",
        "steps": ["2 + 3 = 6", "6"],
        "label": 0,
        "final_answer_correct": False,
        "generator": "g",
    },
    "prmbench": {
        "idx": "a",
        "original_question": "2 + 3?",
        "modified_question": "2 + 3?",
        "original_process": ["2 + 3 = 5", "5"],
        "modified_process": ["2 + 3 = 6", "6"],
        "error_steps": [1],
        "classification": "redundency",
    },
    "gsm8k": {"question": "2 + 3?", "answer": "2 + 3 = <<2+3=5>>5\n#### 5"},
    "math": {"problem": "2 + 3?", "solution": "So\n\n\\boxed{5}.", "answer": "5", "level": 1, "unique_id": "a"},
    "records": {
        "problem": "2 + 3?",
        "steps": ["2 + 3 = 5", "5"],
        "kind": "value",
        "ratings": [1, None],
        "values": [0.5, 1],
        "first_error": -1,
        "correct": True,
        "completions": [4, 4],
        "tokens": [9, 9],
        "generation": 0,
        "answer": "5",
        "id": "a",
        "extra": {"cost": {"tokens": 3, "money": 0.1}, "label": {"method": "judge"}, "tokens": [2]},
    },
}  # fmt: skip


def test_every_reader_has_a_row() -> None:
    assert set(GOOD) == set(READERS)
    for source, row in GOOD.items():
        with elsewhere() as folder:
            assert list(read_records(options(source, write(folder, encoded(row))), Tally()))


def encoded(row: Any) -> bytes:
    return json.dumps(row).encode() + b"\n"


def write(folder: Path, content: bytes, name: str = "rows.jsonl") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def options(source: str, path: Path, **more: Any) -> DataOptions:
    return DataOptions(source=source, path=str(path), **more)


def assert_place(error: UserError, path: Path, *, row: bool = True) -> None:
    """The error is one line that begins with the file and, where a row is at fault, its number."""
    line = refused(error)
    assert_readable(line)
    after = r":\d+" if row else "[:, ]"
    assert re.match(f"stepjax: {re.escape(str(path))}{after}", line), line


@st.composite
def rows(draw: st.DrawFn, source: str | None = None) -> tuple[str, bytes]:
    """A reader's name, and a line that was a row of its own."""
    name = source or draw(st.sampled_from(sorted(GOOD)))
    row = draw(st.just(GOOD[name]) | changed(GOOD[name]) | JSON)
    line = json.dumps(row, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass") + b"\n"
    return name, draw(st.just(line) | damaged(line))


DATA = {
    "neutral": st.sampled_from(["own", "good", "bad", "unlabelled"]),
    "shared_labels": st.sampled_from(["once", "all"]),
    "human": st.sampled_from(["unlabelled", "good", "cut"]),
    "useless": st.sampled_from(["bad", "neutral"]),
    "references": st.sampled_from(["unlabelled", "good"]),
    "kind": st.sampled_from(["", "step", "prefix", "value"]),
    "alternatives": st.booleans(),
    "leave_out": st.sampled_from([(), ("flagged", "solution")]),
}


@FUZZ.holds(few=150, row=rows(), more=st.fixed_dictionaries(DATA))
def a_row_of_a_public_format(row: tuple[str, bytes], more: dict[str, Any]) -> None:
    source, line = row
    good = encoded(GOOD[source])
    with elsewhere() as folder:
        path = write(folder, good + line + (b"" if line.endswith(b"\n") else b"\n") + good)
        try:
            found = list(read_records(options(source, path, **more), Tally()))
        except UserError as error:
            assert_place(error, path)
            found = None
        tally = Tally()
        aside = list(read_records(options(source, path, skip_bad="bad.jsonl", **more), tally))
        bad = (folder / "bad.jsonl").read_text().rstrip("\n").split("\n") if (folder / "bad.jsonl").exists() else []
        assert bool(bad) == (found is None) and (found is None or aside == found)
        for each in bad:
            where = json.loads(each)
            assert where["place"].startswith(f"{path}:") and where["error"] and set(where) == {"place", "error", "row"}
        assert sum(record.place.endswith(":1") for record in aside) or more["leave_out"] or not aside
        assert_whole(aside, folder)


def assert_whole(records: list[LabelledSolution], folder: Path) -> None:
    """The records go to a JSONL file and come back equal."""
    path = folder / "again.jsonl"
    path.write_text("".join(map(line, records)), encoding="utf-8")
    assert list(Records(path)) == records


@FUZZ.holds(
    few=20,
    row=rows(),
    source=st.sampled_from(sorted(GOOD)),
    out=st.sampled_from(["", "out.jsonl"]),
    ending=st.sampled_from([".jsonl", ".json", ".jsonl.gz", ".parquet"]),
    hurt=damaged(b"x" * 200),
)
def a_file_by_the_command(row: tuple[str, bytes], source: str, out: str, ending: str, hurt: bytes) -> None:
    name, line = row
    content = encoded(GOOD[name]) * 2 + line
    if ending == ".json":
        content = b"[" + b",".join(content.splitlines()) + b"]"
    elif ending == ".jsonl.gz":
        content = gzip.compress(content)[: len(hurt)]
    with elsewhere() as folder:
        path = write(folder, content, "rows" + ending)
        said = command("data", f"--config.source={name}", f"--config.path={path}", f"--config.out={out}")
        if said.status == 2:
            assert str(path) in said.errors[0], said.errors
            assert not (folder / "out.jsonl").exists()
        more = ["--config.skip_bad=bad.jsonl", "--config.overwrite=True", "--config.held_out=0.5"]
        command("data", f"--config.source={name}", f"--config.path={path}", f"--config.out={out}", *more)
        assert not list(folder.glob("*.partial"))


@FUZZ.holds(
    few=40,
    rows=st.lists(changed(GOOD["records"]) | changed(GOOD["trl"]) | changed(GOOD["omegaprm"]), min_size=1, max_size=3),
    source=st.sampled_from(["records", "trl", "omegaprm", "gsm8k"]),
    hurt=st.none() | st.integers(0, 400),
)
def a_parquet_file(rows: list[Any], source: str, hurt: int | None) -> None:
    with elsewhere() as folder:
        path = folder / "rows.parquet"
        try:
            table = pyarrow.Table.from_pylist([row for row in rows if isinstance(row, dict)])
            pyarrow.parquet.write_table(table, path)
        except (
            pyarrow.ArrowException,
            OverflowError,
            UnicodeEncodeError,
            TypeError,
            ValueError,
            AttributeError,
            KeyError,
        ):
            return  # a table cannot hold that
        if hurt is not None:
            content = path.read_bytes()
            path.write_bytes(content[:hurt] + b"\xff" + content[hurt + 1 :] if hurt % 2 else content[:hurt])
        try:
            list(read_records(options(source, path), Tally()))
        except UserError as error:
            assert_place(error, path, row=False)
        try:
            list(read_records(options(source, path, skip_bad="bad.jsonl"), Tally()))
        except UserError as error:
            assert hurt is not None or "not a readable Parquet file" in str(error), error


@FUZZ.holds(few=40, row=rows("records"))
def a_dataset_of_records(row: tuple[str, bytes]) -> None:
    with elsewhere() as folder:
        path = write(folder, encoded(GOOD["records"]) + row[1] + b"\n")
        try:
            assert len(list(Records(path))) >= 1
        except UserError as error:
            assert_place(error, path)
        try:
            task = LabelledProblems(str(path))
            for problem in task.problems("train"):
                task.grade(problem, "#### 5")
            list(task.texts())
        except UserError as error:
            assert_place(error, path)


@FUZZ.holds(
    few=60,
    row=rows("gsm8k") | rows("math"),
    many=st.integers(0, 12),
    fields=st.tuples(
        st.sampled_from(["question", "problem", "answer"]), st.sampled_from(["answer", "solution", "level"])
    ),
    prefix=ANY_TEXT,
)
def problems_of_a_task(row: tuple[str, bytes], many: int, fields: tuple[str, str], prefix: str) -> None:
    with elsewhere() as folder:
        path = write(folder, encoded(GOOD[row[0]]) * many + row[1], "train.jsonl")
        write(folder, encoded(GOOD["gsm8k"]), "test.jsonl")
        for make in (
            lambda: GSM8K(folder),
            lambda: JsonlProblems(path, problem=fields[0], answer=fields[1], answer_prefix=prefix),
            lambda: JsonlProblems(path, folder / "test.jsonl", problem="question", solution="answer"),
        ):
            try:
                task = make()
                for split in ("train", "valid", "test"):
                    for problem in task.problems(split):
                        assert isinstance(task.grade(problem, f"so {prefix}\n#### 5"), bool)
            except UserError as error:
                if not str(error).startswith("jsonl: "):
                    split = "test.jsonl" if "test.jsonl" in str(error) else "train.jsonl"
                    assert_place(error, folder / split, row=False)


@FUZZ.holds(few=40, content=damaged(encoded({"a": 1, "b": "text", "c": [None]}) * 3), gz=st.booleans())
def lines_of_json(content: bytes, gz: bool) -> None:
    with elsewhere() as folder:
        path = write(folder, gzip.compress(content) if gz else content, "rows.jsonl.gz" if gz else "rows.jsonl")
        bad: list[UserError] = []
        rows = list(
            read_jsonl(
                path, required={"a": int}, optional={"b": str | float, "c": list}, bad=lambda e, raw: bad.append(e)
            )
        )
        for error in bad:
            assert_place(error, path)
        try:
            assert list(read_jsonl(path, required={"a": int}, optional={"b": str | float, "c": list})) == rows
        except UserError as error:
            assert str(error) == str(bad[0])
        else:
            assert not bad


@pytest.mark.parametrize("name", FUZZ.names)
def test_a_few(name: str) -> None:
    FUZZ.few(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", FUZZ.names)
def test_for_minutes(name: str) -> None:
    FUZZ.minutes(name)
