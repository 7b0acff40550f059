"""Rows of JSON arrays and Parquet files that JSON Lines could not hold: named by their place, or set aside."""

import datetime
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from stepjax.config import DataOptions
from stepjax.data.readers import read_records
from stepjax.data.readers.base import Tally
from stepjax.errors import UserError

GOOD = b'{"prompt": "p", "completions": ["s"], "labels": [true]}'


def read(path: Path, source: str = "trl", **options: str) -> list:
    return list(read_records(DataOptions(source=source, path=str(path), **options), Tally()))


@pytest.mark.parametrize(
    ("element", "said"),
    [
        (GOOD.replace(b'"p"', b'"\xff"'), "not UTF-8 text"),
        (GOOD.replace(b'"p"', b'"\\ud800"'), "an escape"),
        (GOOD.replace(b"true", b"NaN"), "NaN and Infinity are no JSON numbers"),
        (b"[1]", "this one is a list"),
    ],
)
def test_an_element_of_an_array_is_held_to_what_a_line_is(tmp_path: Path, element: bytes, said: str) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(b"[" + GOOD + b",\n" + element + b",\n" + GOOD + b"]")
    with pytest.raises(UserError, match=rf"rows\.json:2: .*{said}"):
        read(path)
    assert len(read(path, skip_bad=str(tmp_path / "bad.jsonl"))) == 2
    (bad,) = (tmp_path / "bad.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(bad)["place"] == f"{path}:2"


def test_what_only_parquet_can_hold_is_named_and_set_aside(tmp_path: Path) -> None:
    path, bad = tmp_path / "rows.parquet", tmp_path / "bad.jsonl"
    day = datetime.date(2024, 2, 29)
    rows = [
        {"problem": "p", "steps": ["s"], "extra": {"day": day}},
        {"problem": "p", "steps": None, "extra": {"day": day}},
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    with pytest.raises(UserError, match=r"rows\.parquet:1: field 'extra' must hold JSON values"):
        read(path, "records")
    assert read(path, "records", skip_bad=str(bad)) == []
    found = [json.loads(line) for line in bad.read_text().splitlines()]
    assert len(found) == 2 and all("2024-02-29" in row["row"] for row in found)


def test_a_parquet_file_whose_names_are_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    table = pyarrow.Table.from_pylist([{"prompt": "p", "completions": ["s"], "labels": [True]}])
    pyarrow.parquet.write_table(table, path, store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"completions", b"compl\xfftions"))
    with pytest.raises(UserError, match=r"rows\.parquet: not a readable Parquet file: 'utf-8' codec"):
        read(path)


def test_an_answer_of_thousands_of_digits_is_compared(tmp_path: Path) -> None:
    digits = "5" * 5001  # more than Python writes as a whole number
    row = {"question": "p", "final_answer": digits, "reasoning_steps": []}
    for given, right in ((digits, True), ("5", None)):
        row["reasoning_steps"] = [{"solution_prefix": f"p \\boxed{{{given}}}", "mc_value": 1}]
        (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
        (record,) = read(tmp_path / "rows.jsonl", "omegaprm")
        assert record.correct is right
