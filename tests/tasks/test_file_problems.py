"""Task `files`: the same problems from every place, fields inside of others, answers by a pattern, what is missing."""

import dataclasses
import json
import time
from pathlib import Path

import pytest
from tasks.kept_problems import FORMS, array, hub_cache, jsonl, laid_out, parquet, sums, tfds_folder

from stepjax.config import Config
from stepjax.data.fields import field
from stepjax.errors import UserError
from stepjax.tasks.files import FileProblems
from stepjax.tasks.registry import make_task

FIELDS = {"problem": "question", "answer": "final", "solution": "worked"}
SPLITS = ("train", "valid", "test")


def everything(task: FileProblems) -> dict[str, list]:
    """All of each split, with the columns, which problems do not compare."""
    return {split: [(p, dict(p.columns)) for p in task.problems(split)] for split in SPLITS}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_problems(form: str, tmp_path: Path) -> None:
    rows = sums(60)
    (tmp_path / "plain").mkdir()
    plain = everything(FileProblems(jsonl(tmp_path / "plain", rows), held_out=0.2, **FIELDS))
    assert [len(plain[split]) > 3 for split in SPLITS] == [True] * 3
    assert plain["train"][0][1].keys() == {"question", "level"} and plain["train"][1][0].solution
    assert everything(FileProblems(FORMS[form](tmp_path, rows), held_out=0.2, **FIELDS)) == plain


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the hub's client, and no network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_a_hub_data_set_by_name_subset_and_split(tmp_path: Path, offline: Path) -> None:
    rows = sums(30)
    hub_cache(offline, rows)
    plain = FileProblems(jsonl(tmp_path, rows), held_out=0.2, **FIELDS)
    task = FileProblems("hub:owner/sums:main", held_out=0.2, **FIELDS)
    assert everything(task) == everything(plain)
    files = task.files()
    assert [*files] == [f"hub:owner/sums/main/train-0000{i}-of-00003.parquet" for i in range(3)], "on any machine"
    assert all(path.is_file() for path in files.values())
    for source, split, told in [
        ("hub:owner/sums:main", "dev", r"^hub:owner/sums: no split 'dev'; there is train$"),
        ("hub:owner/sums:mian", "", r"^hub:owner/sums: no subset 'mian'; there are main, other$"),
        ("hub:owner/sums", "", r"^hub:owner/sums: name one of its subsets \(main, other\), as in hub:owner/sums:main$"),
        ("hub:owner/sums:other", "", r"^hub:owner/sums: no split 'train'; there is none$"),
        ("hub:owner/none", "", r"^hub:owner/none: the hub does not give this data set \("),
        ("hub:a b", "", r"^hub:a b: a hub data set is written hub:owner/name"),
    ]:
        with pytest.raises(UserError, match=told) as caught:
            FileProblems(source, train_split=split, **FIELDS).problems("train")
        assert "\n" not in str(caught.value)


def test_what_the_hub_answers_is_downloaded(tmp_path: Path, offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set in another format is read from the branch of converted files; only what a split needs is fetched."""
    import huggingface_hub

    folder = tmp_path / "converted" / "main" / "train"
    folder.mkdir(parents=True)
    parquet(folder, sums(10))
    asked = []

    def names(self: object, repository: str, *, repo_type: str, revision: str | None) -> list[str]:
        assert repo_type == "dataset"
        return ["main/train/rows.parquet", "main/test/rows.parquet"] if revision else ["load.py", "data.zip"]

    def download(repository: str, **options: object) -> str:
        asked.append((repository, options["revision"], options["allow_patterns"], options["local_files_only"]))
        return str(tmp_path / "converted")

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", names)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert (
        len(
            FileProblems("hub:owner/old:main", train_split="training", held_out=0.5, **FIELDS)._read(
                "hub:owner/old:main", "train"
            )
        )
        == 10
    )
    assert asked == [("owner/old", "refs/convert/parquet", ["main/train/rows.parquet"], False)]


def test_test_problems_have_a_source_and_a_split_of_their_own(tmp_path: Path) -> None:
    rows = sums(40)
    (tmp_path / "both.json").write_text(json.dumps({"train": rows[:30], "test": rows[30:], "dev": rows[:2]}))
    both = str(tmp_path / "both.json")
    task = FileProblems(both, both, **FIELDS)
    assert [p.id for p in task.problems("test")] == [f"test/{i}" for i in range(10)]
    assert len(task.problems("train")) + len(task.problems("valid")) == 30
    assert len(FileProblems(both, both, test_split="dev", **FIELDS).problems("test")) == 2
    names = tmp_path / "names"
    (names / "validation").mkdir(parents=True)
    array(names / "validation", rows[:5])
    jsonl(names, rows)
    assert len(FileProblems(both, str(names), test_split="valid", **FIELDS).problems("test")) == 5
    bare = tmp_path / "bare"
    bare.mkdir()
    jsonl(bare, rows)
    (bare / "dataset_infos.json").write_text("{}")
    task = FileProblems(str(bare), both, **FIELDS)
    assert len(task.problems("train")) + len(task.problems("valid")) == 30, "no name has a word: all is train"


def test_fields_inside_of_others_and_what_is_shown_of_a_row(tmp_path: Path) -> None:
    rows = [
        {
            "prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": f"{i}+1?"}],
            "reward_model": {"ground_truth": i + 1, "style": "rule"},
            "extra.note": f"because {i}",
            "topic": None,
        }
        for i in range(9)
    ]
    fields = {"problem": "prompt.1.content", "answer": "reward_model.ground_truth", "solution": "extra.note"}
    for source in (jsonl(tmp_path, rows), parquet(tmp_path, rows)):
        problem = FileProblems(source, source, **fields).problems("test")[3]
        assert (problem.text, problem.answer, problem.solution) == ("3+1?", "4", "because 3")
        assert problem.columns.keys() == {"prompt"}, "neither the answer, with what holds it, nor null"
    for name, told in [
        ("prompt.2.content", r"no field 'prompt.2.content'; the way there ends at a list of 2"),
        ("reward_model.truth", r"no field 'reward_model.truth'; that object has 'ground_truth', 'style'"),
        ("prompt.0.role.x", r"no field 'prompt.0.role.x'; the way there ends at text"),
        ("query", r"no field 'query'; the row has 'prompt', 'reward_model', 'extra.note', 'topic'"),
        ("reward_model", r"field 'reward_model' must be text, not an object"),
    ]:
        with pytest.raises(UserError, match=rf"rows\.jsonl:1: {told}$"):
            FileProblems(str(tmp_path / "rows.jsonl"), **{**fields, "problem": name}).problems("train")
    assert field({"a": float("nan")}, "a", float, "x", optional=True) is None


def test_what_tables_fill_with_null_is_no_column(tmp_path: Path) -> None:
    rows = [{"problem": f"{i}?", "answer": "1", "from": [{"book": "b"}, {"page": i}]} for i in range(60)]
    texts, filled = (FileProblems(form(tmp_path, rows), held_out=0.2) for form in (jsonl, parquet))
    assert everything(filled) == everything(texts)
    assert texts.problems("train")[0].columns["from"] == [
        {"book": "b"},
        {"page": int(texts.problems("train")[0].id[6:])},
    ]


def test_the_answer_by_a_pattern_in_the_solution(tmp_path: Path) -> None:
    rows = [{"q": f"{i}?", "text": f"Answer: 0.\nSo Answer: {i}\\%. Done."} for i in range(12)]
    source = jsonl(tmp_path, rows)
    fields = {"problem": "q", "solution": "text"}
    for pattern in (r"Answer: (\d+)", r"(?<=Answer: )\d+(?=\\)"):
        found = FileProblems(source, source, solution_pattern=pattern, **fields).problems("test")
        assert [problem.answer for problem in found] == [str(i) for i in range(12)]
    with pytest.raises(UserError, match=r"rows\.jsonl:1: solution_pattern '####' finds nothing in field 'text'"):
        FileProblems(source, solution_pattern="####", **fields).problems("test")
    with pytest.raises(UserError, match=r"rows\.jsonl:1: solution_pattern 'Answer: \(X\?\)' finds nothing"):
        FileProblems(source, solution_pattern="Answer: (X?)", **fields).problems("test")
    with pytest.raises(UserError, match=r"solution_pattern '\(': not a regular expression"):
        FileProblems(source, solution_pattern="(", **fields)
    slow = jsonl(tmp_path, [{"q": "?", "text": "a" * 80 + "b"}])
    began = time.process_time()
    with pytest.raises(UserError, match=r"rows\.jsonl:1: solution_pattern '\(a\|aa\)\+\$' takes too long"):
        FileProblems(slow, solution_pattern="(a|aa)+$", **fields).problems("test")
    assert time.process_time() - began < 20


def test_what_is_missing_is_said_in_one_line(tmp_path: Path) -> None:
    rows = sums(12)
    folder, table, text = tfds_folder(tmp_path, rows), parquet(tmp_path, rows), jsonl(tmp_path, rows)
    (tmp_path / "lists.json").write_text(json.dumps({"a": rows, "b": rows}))
    (tmp_path / "empty").mkdir()
    for source, options, told in [
        (
            table,
            {"answer": "anwser"},
            r"rows\.parquet:1: no field 'anwser'; the row has 'question', 'final', 'level', 'worked'$",
        ),
        (folder, {"problem": "problem"}, r"tfds/train:1: no field 'problem'; the row has '.*question"),
        (folder, {"train_split": "dev"}, r"tfds: no split 'dev'; it has train$"),
        (text, {"train_split": "dev"}, r"rows\.jsonl: the file has no splits, so 'dev' cannot be chosen"),
        (f"{tmp_path}/lists.json", {"train_split": "c"}, r"lists\.json: no list of rows 'c'; there are a, b$"),
        (f"{tmp_path}/lists.json", {}, r"lists\.json: the object has several lists \(a, b\); name one as the split$"),
        (f"{tmp_path}/*.csv", {}, r"\*\.csv: no file matches; the folder has lists\.json, rows\.jsonl, rows\.parquet$"),
        (f"{text},{tmp_path}/row.parquet", {}, r"row\.parquet: no such file; did you mean rows\.parquet\?$"),
        (f"{tmp_path}/empty", {}, r"empty: not a folder of problems; it holds no \.jsonl"),
        (f"{tmp_path}/none.json", {}, r"none\.json: no such file"),
    ]:
        with pytest.raises(UserError, match=told) as caught:
            FileProblems(source, **{**FIELDS, **options}).problems("train")
        assert "\n" not in str(caught.value)
    nested = tmp_path / "root" / "1.0.0"
    nested.parent.mkdir()
    Path(folder).rename(nested)
    with pytest.raises(UserError, match=r"root: not a folder of problems; did you mean .*root/1\.0\.0\?$"):
        FileProblems(str(tmp_path / "root"), **FIELDS).problems("train")


def test_damaged_files_are_named(tmp_path: Path) -> None:
    rows = sums(3)
    whole = Path(FORMS["array_gz"](tmp_path, rows)).read_bytes()
    for name, content, told in [
        ("a.json.gz", whole[:-9], r"a\.json\.gz: cannot be read: "),
        ("b.json.gz", b"no gzip", r"b\.json\.gz: cannot be read: "),
        ("c.json", '{"data": [{"question": "é"}]}'.encode("latin-1"), r"c\.json: not UTF-8 text"),
        ("d.json", b'[{"question": "\xe9"}]', r"d\.json:1: not UTF-8 text"),
        ("e.json", b'{"data": [{"question": ', r"e\.json: not JSON \(Expecting value: line 1 column 24"),
        ("f.json", b'{"data": [NaN]}', r"f\.json: NaN and Infinity are no JSON numbers"),
        ("g.json", b"", r"g\.json: the file has no problems$"),
        ("h.json", b'{"data": []}', r"h\.json: the file has no problems$"),
        ("i.parquet", b"PAR1", r"i\.parquet: not a readable Parquet file: "),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=told) as caught:
            FileProblems("x", str(tmp_path / name), **FIELDS).problems("test")
        assert "\n" not in str(caught.value)


def test_the_files_of_a_source(tmp_path: Path) -> None:
    rows = sums(9)
    folder, table, parts = tfds_folder(tmp_path, rows), parquet(tmp_path, rows), FORMS["globbed"](tmp_path, rows)
    names = [str(tmp_path / f"train-0000{i}-of-00003.parquet") for i in range(3)]
    task = FileProblems(f"{parts},{folder}", table, train_split="")
    assert task.files() == {name: Path(name) for name in [*names, folder, table]}
    missing = f"{tmp_path}/none/*.jsonl"
    assert FileProblems(missing).files() == {missing: Path(missing)}, "what reads it says that it is missing"


def test_a_name_with_a_comma_and_a_list_of_many(tmp_path: Path) -> None:
    rows = sums(6)
    Path(jsonl(tmp_path, rows)).rename(tmp_path / "a,b[1].jsonl")
    source = f"{tmp_path}/a,b[1].jsonl"
    assert len(FileProblems("x", source, **FIELDS).problems("test")) == 6
    plain = parquet(tmp_path, rows)
    assert len(FileProblems("x", ",".join([plain] * 200), **FIELDS).problems("test")) == 1200


def test_a_large_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stepjax.tasks import files

    read, source = [], laid_out(tmp_path, sums(60))
    rows = files.source_rows
    monkeypatch.setattr(files, "source_rows", lambda *a, **k: read.append(a) or rows(*a, **k))
    task = FileProblems(source, held_out=0.2, **FIELDS)
    assert not read
    for split in (*SPLITS, *SPLITS):
        assert task.problems(split)[0] is task.problems(split)[0]
    assert len(read) == 1


def test_the_options_reach_the_task(tmp_path: Path) -> None:
    config = Config()
    files = dataclasses.replace(
        config.task.files,
        train=array(tmp_path, sums(30)),
        problem="question",
        solution="worked",
        solution_pattern=r"#### (\d+)",
    )
    rows = [row for row in sums(30) if "worked" in row]
    files = dataclasses.replace(files, train=array(tmp_path, rows), held_out=0.3)
    task = make_task(dataclasses.replace(config, task=dataclasses.replace(config.task, name="files", files=files)))
    assert {p.answer for p in task.problems("train")} <= {row["final"] for row in rows}
