"""Rows with a value of another type in any field: one line or a row set aside, never a traceback."""

import copy
import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stepjax.config import DataOptions
from stepjax.data.jsonl import parse_line
from stepjax.data.readers import READERS, read_records
from stepjax.data.readers.base import Tally
from stepjax.errors import UserError

HERE = Path(__file__).parent
VALUES = [None, True, 3, -1, 0.5, 10**30, "x", "", [], ["x"], [1], [[]], {}, {"a": 1}]
ABSENT = object()
RECORD = {
    **{"problem": "p", "steps": ["a", "b"], "kind": "step", "ratings": [1, -1], "values": [0.5, 0.2]},
    **{"completions": [1, 2], "tokens": [2, 3], "first_error": 1, "answer": "4", "correct": False, "generation": 3},
    **{"source": "s", "place": "x", "id": "i", "labeller": "l", "group": "g", "extra": {"label": {}}},
}
CHAT = [{"role": "user", "content": "p"}]


def excerpt(name: str) -> dict[str, Any]:
    return json.loads((HERE / name).read_text().splitlines()[0])


ROWS: dict[str, dict[str, Any]] = {
    "prm800k": excerpt("prm800k/samples.jsonl"),
    "math_shepherd": excerpt("math_shepherd/samples.jsonl"),
    "omegaprm": excerpt("math_shepherd/omegaprm.jsonl"),
    "prmbench": excerpt("prmbench/samples.jsonl"),
    "processbench": {"id": "x", "generator": "g", "problem": "p", "steps": ["a", "b"], "final_answer_correct": False}
    | {"label": 1},
    "trl": {"prompt": CHAT, "completions": ["a", "b"], "labels": [True, False], "id": "x"},
    "gsm8k": {"question": "q", "answer": "a <<1+1=2>>2\nb\n#### 2"},
    "math": {"problem": "p", "solution": "a.\n\n$\\boxed{1}$.", "level": "5", "answer": "1", "unique_id": "u"},
    "records": RECORD,
}


def places(value: Any, before: tuple = ()) -> Iterator[tuple]:
    """Every place inside of a row; of a list the first two."""
    if before:
        yield before
    inner = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for name, entry in inner:
        yield from places(entry, (*before, name))


def changed(row: Any, place: tuple, value: Any) -> Any:
    row = copy.deepcopy(row)
    inner = row
    for name in place[:-1]:
        inner = inner[name]
    if value is ABSENT:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return row


def test_every_format_is_tried():
    assert ROWS.keys() == READERS.keys()


@pytest.mark.parametrize("source", ROWS)
def test_another_type_in_any_field(source: str, tmp_path: Path):
    row = ROWS[source]
    rows = [changed(row, place, value) for place in places(row) for value in (*VALUES, ABSENT)]
    path, aside = tmp_path / "rows.jsonl", tmp_path / "aside.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    tally = Tally()
    found = list(read_records(DataOptions(source=source, path=str(path), skip_bad=str(aside)), tally))
    set_aside = [json.loads(line) for line in aside.read_text().splitlines()]
    assert found and tally.rows == len(rows) and len(set_aside) == tally.dropped["malformed rows, set aside"] > 0
    for record in found:
        assert parse_line(json.dumps(record.to_json(), allow_nan=False).encode() + b"\n", "")
    for bad in set_aside:
        number = int(bad["place"].removeprefix(f"{path}:"))
        assert json.loads(bad["row"]) == rows[number - 1] and bad["error"] and "\n" not in bad["error"]
    alone = tmp_path / "alone.jsonl"
    alone.write_text("\n" + json.dumps(json.loads(set_aside[0]["row"])) + "\n")
    with pytest.raises(UserError) as error:
        list(read_records(DataOptions(source=source, path=str(alone)), Tally()))
    hint = "config.data.skip_bad=FILE sets such rows aside"
    assert str(error.value) == f"{alone}:2: {set_aside[0]['error']}; {hint}"


@pytest.mark.parametrize(
    "place, value, message",
    [
        (("question", "ground_truth_answer"), 29, "field 'ground_truth_answer' must be text or null, not int"),
        (("question", "problem"), 1, "field 'problem' must be text, not int"),
        (("label", "steps", 0, "completions", 0, "text"), 7, "field 'text' must be text, not int"),
        (("label", "steps", 0, "completions", 0, "rating"), 1.0, "'rating' must be -1, 0, 1 or null, not 1.0"),
    ],
)
def test_prm800k_numbers_for_text(place: tuple, value: Any, message: str, tmp_path: Path):
    path, aside = tmp_path / "rows.jsonl", tmp_path / "aside.jsonl"
    rows = [ROWS["prm800k"], changed(ROWS["prm800k"], place, value)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError) as error:
        list(read_records(DataOptions(source="prm800k", path=str(path)), Tally()))
    assert str(error.value).startswith(f"{path}:2: ") and message in str(error.value)
    tally = Tally()
    assert list(read_records(DataOptions(source="prm800k", path=str(path), skip_bad=str(aside)), tally))
    assert tally.dropped == {"malformed rows, set aside": 1} and tally.rows == 2


def test_arrays_and_parquet_have_values_that_lines_do_not(tmp_path: Path):
    good = json.dumps({"problem": "p", "steps": ["a"]})
    array, aside = tmp_path / "rows.json", tmp_path / "aside.jsonl"
    bad = ['{"problem": "\\ud800", "steps": ["a"]}', '{"problem": "p", "steps": ["a"], "extra": {"x": NaN}}']
    array.write_text("[" + ",\n".join([good, *bad, good]) + "]")
    options = DataOptions(source="records", path=str(array), skip_bad=str(aside))
    assert len(list(read_records(options, tally := Tally()))) == 2 and tally.dropped.total() == 2
    found = [json.loads(line) for line in aside.read_text().splitlines()]
    assert [f["place"].rpartition(":")[2] for f in found] == ["2", "3"] and [f["row"] for f in found] == bad
    assert ["no other half" in found[0]["error"], "NaN" in found[1]["error"]] == [True, True]

    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"problem": "p", "steps": ["a"], "extra": {"when": datetime.datetime(2020, 1, 1), "raw": b"x"}}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    options = DataOptions(source="records", path=str(tmp_path / "rows.parquet"), skip_bad=str(aside))
    assert not list(read_records(options, Tally()))
    assert "'extra' must hold JSON values alone" in json.loads(aside.read_text())["error"]
