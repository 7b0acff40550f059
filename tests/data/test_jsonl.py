"""The JSONL reader: what it takes, and the one line it says about what it does not take."""

import pytest

from stepjax.data.jsonl import read_jsonl
from stepjax.errors import UserError

FIELDS = {"problem": str, "answer": str | int | float}


@pytest.fixture
def write(tmp_path):
    def write(content, name="rows.jsonl"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_rows_come_with_their_line_numbers(write):
    path = write('\ufeff{"a": 1}\n\n  \r\n{"a": "\\u00e9 \u2028 \\ud83d\\ude00"}\r\n{"a": 3}')
    assert list(read_jsonl(path)) == [(1, {"a": 1}), (4, {"a": "é \u2028 😀"}), (5, {"a": 3})]


def test_an_empty_file_has_no_rows(write):
    assert list(read_jsonl(write(""))) == []


def test_rows_are_read_one_by_one(write):
    rows = read_jsonl(write('{"a": 1}\nnonsense\n'))
    assert next(rows) == (1, {"a": 1})
    with pytest.raises(UserError, match=r"rows\.jsonl:2: not JSON"):
        next(rows)


def test_types_are_checked(write):
    good = '{"problem": "p", "answer": 1, "note": null}\n{"problem": "p", "answer": 0.5, "note": "x"}\n'
    rows = [row for _, row in read_jsonl(write(good), required=FIELDS, optional={"note": str})]
    assert [row["answer"] for row in rows] == [1, 0.5]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{'a': 1}\n", r":1: not JSON: .* at column 2; each line must hold one JSON object$"),
        ('{"problem": "p", "answer": NaN}\n', r":1: not JSON: NaN is no JSON number"),
        ('[{"problem": "p"}]\n', r":1: each line must hold one JSON object, this one holds a list$"),
        ("null\n", r":1: .*null$"),
        ('\n{"problem": "p"}\n', r":2: no field 'answer'; the row has 'problem'$"),
        ("{}\n", r":1: no field 'problem'; the row has no fields$"),
        (
            '{"problem": "p", "answer": true}\n',
            r"field 'answer' must be text or a whole number or a number, not true or false",
        ),
        ('{"problem": null, "answer": 1}\n', r"field 'problem' must be text, not null$"),
        ('{"problem": "p", "answer": 1, "note": 2}\n', r"field 'note' must be text, not a whole number$"),
        ('{"problem": "p", "answer": 1}\n{"problem": "p", "ans', r":2: the last row is cut off in the middle"),
        ('{"problem": "é'.encode()[:-1], r":1: the last row is cut off in the middle; copy the file again$"),
        ('{"problem": "é"}\n'.encode("latin-1"), r":1: not UTF-8 text \(byte 14\)"),
        ('{"problem": "p"}\n'.encode("utf-16"), r":1: not UTF-8 text"),
        ('{"problem": "\\ud83d", "answer": 1}\n', r":1: an escape .* has no other half$"),
        ("[" * 100_000 + "\n", r":1: nested too deeply$"),
        ('{"answer": ' + "9" * 10_000 + "}\n", r":1: not JSON: "),
    ],
)
def test_mistakes_are_named(write, content, said):
    with pytest.raises(UserError, match=said) as caught:
        list(read_jsonl(write(content), required=FIELDS, optional={"note": str}))
    assert "\n" not in str(caught.value)


def test_a_missing_file_names_near_matches(write, tmp_path):
    write("", "train.jsonl")
    with pytest.raises(UserError, match=r"trian\.jsonl: no such file; did you mean train\.jsonl\?$"):
        list(read_jsonl(tmp_path / "trian.jsonl"))
    with pytest.raises(UserError, match=r"zzz: no such file$"):
        list(read_jsonl(tmp_path / "zzz"))
    with pytest.raises(UserError, match=r"no such file \(there is no folder .*nowhere\)$"):
        list(read_jsonl(tmp_path / "nowhere" / "train.jsonl"))
    with pytest.raises(UserError, match="cannot be read"):
        list(read_jsonl(tmp_path))
