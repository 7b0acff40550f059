"""Fingerprints: what they see of a file, and what they do not read."""

import hashlib
import os
from pathlib import Path

import pytest

from stepjax.errors import UserError
from stepjax.workdir import fingerprints as fp
from stepjax.workdir.code_version import code_version, shown


def test_a_data_file_has_the_hash_that_other_programs_give_it(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(content := os.urandom(300_000))
    assert fp.file_print(path) == {"size": 300_000, "sha256": hashlib.sha256(content).hexdigest()}
    assert fp.file_print(path) == fp.bytes_print(content) == fp.file_print(path, weights=True)


def test_large_weights_are_read_in_blocks_over_the_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fp, "WHOLE", 100)
    monkeypatch.setattr(fp, "BLOCK", 20)
    monkeypatch.setattr(fp, "BLOCKS", 5)
    path, content = tmp_path / "weights", bytearray(os.urandom(201))
    path.write_bytes(content)
    before = fp.file_print(path, weights=True)
    assert before["sampled"] and before["size"] == 201
    seen = []
    for i in range(201):
        content[i] ^= 1
        path.write_bytes(content)
        content[i] ^= 1
        seen.append(fp.file_print(path, weights=True) != before)
    starts = [0, 45, 90, 135, 181]
    assert [i for i, is_seen in enumerate(seen) if is_seen] == [i for at in starts for i in range(at, at + 20)]
    path.write_bytes(content + b"0")
    assert fp.file_print(path, weights=True) != before, "another size"


def test_a_large_data_file_of_the_same_time_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fp, "TRUSTED", 10)
    path = tmp_path / "data"
    path.write_text("a" * 20)
    known = fp.file_print(path)
    monkeypatch.setattr(hashlib, "file_digest", None)
    assert fp.file_print(path, known=known) == known
    monkeypatch.undo()
    monkeypatch.setattr(fp, "TRUSTED", 10)
    os.utime(path, ns=(0, 0))
    touched = fp.file_print(path, known=known)
    assert touched != known and fp.same(touched, known), "the same content at another time"
    path.write_text("b" * 20)
    assert not fp.same(fp.file_print(path, known=known), known)


def test_names_of_files_are_the_users(tmp_path: Path) -> None:
    for name in ("set/train-0.array_record", "set/info.json", "set/deep/more.json", "one.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert list(fp.files_of("one", tmp_path / "one.jsonl")) == ["one"]
    assert list(fp.files_of("x", tmp_path / "set")) == ["x/deep/more.json", "x/info.json", "x/train-0.array_record"]
    assert list(fp.files_of("x", tmp_path / "set", ("*.json",))) == ["x/info.json"], "a model's own files alone"
    for patterns in ((), ("*",)):
        assert fp.files_of("x", tmp_path / "nothing", patterns) == {}


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone: cannot be read \(No such file"):
        fp.prints_of({"data": tmp_path / "gone"})


def test_one_fingerprint_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    before = fp.folder_print(tmp_path, without=lambda name: name == "b")
    (tmp_path / "b").write_text("c")
    assert fp.folder_print(tmp_path, without=lambda name: name == "b") == before
    assert fp.folder_print(tmp_path, without=lambda name: False) != before
    (tmp_path / "a").rename(tmp_path / "d")
    assert fp.folder_print(tmp_path, without=lambda name: name == "b") != before


def test_changes_are_of_the_kinds_that_both_have() -> None:
    a, b = fp.bytes_print(b"a"), fp.bytes_print(b"b")
    before = {"data": {"x": a, "gone": a}, "model": {"m": a}, "old": {"o": a}}
    now = {"data": {"x": b, "new": a}, "model": {"m": b}, "late": {"l": a}}
    found = list(fp.changes(before, now, ("data", "old", "late")))
    assert found == [
        fp.Change("data", "x", a, b),
        fp.Change("data", "gone", a, None),
        fp.Change("data", "new", None, a),
    ]
    assert str(found[1]) == f"gone (1 bytes, sha256 {a['sha256'][:8]}… then, none now)"


def test_the_code_names_its_version_and_its_source() -> None:
    code = code_version()
    assert code["version"] in shown(code) and len(code["source"]) == 64
