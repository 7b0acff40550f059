"""Readers of the public formats on excerpts of the public files, and on rows with something wrong."""

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from stepjax.config import DataOptions
from stepjax.data.readers import read_records
from stepjax.data.readers.base import Tally
from stepjax.errors import UserError

HERE = Path(__file__).parent
PRM800K = HERE / "prm800k" / "samples.jsonl"


def read(source, path, **options):
    tally = Tally()
    return list(read_records(DataOptions(source=source, path=str(path), **options), tally)), tally


def write(folder, *rows, name="rows.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def raw_rows():
    return [json.loads(line) for line in PRM800K.read_text().splitlines()]


def test_prm800k_gives_each_human_label_once():
    records, tally = read("prm800k", PRM800K)
    raw = Counter(
        c["rating"] for row in raw_rows() for step in row["label"]["steps"] for c in step["completions"] or ()
    )
    found = Counter(rating for record in records for rating in record.ratings if rating is not None)
    assert found == raw and not tally.dropped and tally.rows == 6
    assert len({record.id for record in records}) == len(records)


def test_prm800k_alternatives_stand_only_after_the_chosen_steps():
    records, _ = read("prm800k", PRM800K, shared_labels="all")
    chosen = {(r.id.split("#")[0]): r for r in records if r.extra["path"] == "chosen"}
    others = [r for r in records if r.extra["path"] == "alternative"]
    assert len(chosen) == 6 and len(others) == 30
    for record in others:
        main, before = chosen[record.id.split("#")[0]], len(record.steps) - 1
        assert record.steps[:-1] == main.steps[:before] and record.ratings[:-1] == main.ratings[:before]
        step = next(r for r in raw_rows() if main.id.endswith(r["timestamp"]))["label"]["steps"][before]
        number = int(record.id.split(".")[-1])
        assert record.steps[-1] == step["completions"][number]["text"] and number != step["chosen_completion"]
    once, _ = read("prm800k", PRM800K)
    assert all(set(r.ratings[:-1]) <= {None} for r in once if r.extra["path"] == "alternative")
    assert [r.first_error for r in once] == [r.first_error for r in records]
    assert len(read("prm800k", PRM800K, alternatives=False)[0]) == 6
    assert read("prm800k", PRM800K, alternatives=False)[1].dropped == {
        "alternative completions (alternatives=False)": 30
    }


def test_prm800k_a_step_written_by_a_human_has_no_rating():
    for human, ratings, error in (
        ("unlabelled", (1, None, 1, 1, 1, 1), None),
        ("good", (1, 1, 1, 1, 1, 1), -1),
        ("cut", (1,), -1),
    ):
        records, tally = read("prm800k", PRM800K, human=human, shared_labels="all")
        first = records[0]
        assert first.ratings == ratings and first.first_error == error
        assert first.extra.get("human") == ([1] if human != "cut" else None)
        if human == "cut":
            assert first.extra["unfinished"] and first.correct is None
            assert tally.dropped["human completions (human=cut)"] == 2
            assert tally.dropped["completions after the end of the chosen path"] == 8
        else:
            assert first.steps[1] == "We have $3p+e=1.24$ and $5p+e=1.82$." and first.correct is True
        # What was rated wrong before the human wrote is an error at that place, whatever becomes of the human's step.
        assert [r.first_error for r in records[1:6]] == [1] * 5


def test_prm800k_phase_2_ends_at_the_error_of_the_given_solution():
    records, _ = read("prm800k", PRM800K)
    main = next(r for r in records if r.extra["path"] == "chosen" and r.extra["finish_reason"] == "found_error")
    assert main.ratings == (1, 0, 1, 1, 1, 1, -1) and main.first_error == 6 and main.extra["phase"] == 2
    assert main.steps[-1].startswith("For the Democrats, there are 5! ways to order them") and main.generation == 6
    assert main.extra["unfinished"] and main.correct is None and main.labeller == "cc88bf76-df08-4041-be67-3464279cb3b1"
    siblings = [r for r in records if r.id.startswith(main.id + "#6.")]
    assert [r.first_error for r in siblings] == [-1, -1, -1]


def test_prm800k_give_up_null_completions_and_screening():
    records, tally = read("prm800k", PRM800K)
    gave_up = next(r for r in records if r.extra["finish_reason"] == "give_up" and r.extra["path"] == "chosen")
    assert len(gave_up.steps) == 8 and gave_up.extra["human"] == [7] and gave_up.correct is None
    assert tally.noted == {"steps whose completions are null": 1}
    screening = next(r for r in records if r.extra.get("screening"))
    assert screening.generation == -1 and screening.answer == "" and screening.correct is None
    kept, tally = read("prm800k", PRM800K, leave_out=("screening", "give_up", "quality_control", "bad_problem"))
    assert not any(r.extra.get("screening") or r.extra["finish_reason"] == "give_up" for r in kept)
    assert tally.dropped == {"rows left out: screening": 1, "rows left out: give_up": 1}
    with pytest.raises(UserError, match=r"leave_out: no reason 'give-up'.*did you mean 'give_up'"):
        read("prm800k", PRM800K, leave_out=("give-up",))


def test_prm800k_outcomes_neutral_and_flags(tmp_path):
    records, _ = read("prm800k", PRM800K)
    by_end = {r.steps[-1]: r.correct for r in records}
    assert by_end["So the price of a pencil is 29 cents.\n\n# Answer\n\n29"] is True
    neutral = sum(r.ratings.count(0) for r in records)
    for how, count, where in (("good", 3, "noted"), ("bad", 3, "noted"), ("unlabelled", 3, "dropped")):
        changed, tally = read("prm800k", PRM800K, neutral=how)
        assert neutral == count == getattr(tally, where)[f"neutral ratings made {how}"]
        assert not any(0 in r.ratings for r in changed)
    bad, _ = read("prm800k", PRM800K, neutral="bad")
    main = next(r for r in bad if r.extra["path"] == "chosen" and r.extra["finish_reason"] == "found_error")
    assert main.first_error == 1
    row = raw_rows()[0]
    row["label"]["steps"][0]["completions"].append({"text": "odd", "rating": -1, "flagged": True})
    row["is_quality_control_question"] = True
    path = write(tmp_path, row)
    records, tally = read("prm800k", path)
    odd = next(r for r in records if r.steps[-1] == "odd")
    assert odd.extra["flagged"] == [0] and odd.extra["quality_control"] and odd.first_error == 0
    records, tally = read("prm800k", path, leave_out=("flagged",))
    assert not any(r.steps[-1] == "odd" for r in records) and tally.dropped["completions left out: flagged"] == 1
    assert not read("prm800k", path, leave_out=("quality_control",))[0]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda row: row.pop("label"), "fields 'question' and 'label' must be objects"),
        (lambda row: row["question"].pop("problem"), "no field 'problem'; the row has 'ground_truth_answer'"),
        (lambda row: row["label"].update(finish_reason="done"), "'finish_reason' must be one of found_error, .*'done'"),
        (lambda row: row["label"].update(steps=None), "field 'steps' must be a list, not NoneType"),
        (
            lambda row: row["label"]["steps"][0].update(chosen_completion=3),
            "step 0: 'chosen_completion' is 3, but .* 1",
        ),
        (lambda row: row["label"]["steps"][0]["completions"][0].update(rating=2), "step 0: 'rating' must be -1, 0, 1"),
        (lambda row: row["label"]["steps"][0].update(completions="x"), "step 0: 'completions' must be a list or null"),
    ],
)
def test_prm800k_malformed_rows(change, message, tmp_path):
    row = raw_rows()[0]
    change(row)
    with pytest.raises(UserError, match=rf"rows\.jsonl:2: .*{message}"):
        read("prm800k", write(tmp_path, raw_rows()[2], row))


def test_math_shepherd():
    records, tally = read("math_shepherd", HERE / "math_shepherd" / "samples.jsonl")
    first = records[0]
    assert first.kind == "value" and first.ratings == (1, 1, 1, 1, -1) and first.first_error == 4
    assert first.problem.endswith("clarinet lessons in a year?") and first.steps[0].startswith("Step 1: Janet spends")
    assert first.steps[-1].endswith("The answer is: 13520") and first.correct is False and first.answer == ""
    assert first.place.endswith("samples.jsonl:1") and not tally.dropped
    assert [len(r.steps) for r in records] == [5, 3, 2]


@pytest.mark.parametrize(
    "problem, first",
    [
        ("Follow the rule. Step 1: add 3. Step 2: double it. What is the result?", "Step 1: 4 + 3 = 7"),
        ("Step 1: add 3.\nStep 2: double it.\nFrom 4, what is the result", "Step 1: 4 + 3 = 7"),
        ("From 4, what is $2(x+3)$", "Step 1: In Step 1: of the rule we add, 4 + 3 = 7"),
        ("What does Step 1: of the rule give", "Step 1: 4 + 3 = 7"),
        ("Что такое какики и ки?", "Step 1: ки = 7"),  # the placeholder's letters
    ],
)
def test_math_shepherd_a_problem_with_steps_of_its_own(problem, first, tmp_path):
    rest = "Step 2: 7 * 2 = 14. The answer is: 14"
    row = {"input": f"{problem} {first} ки\n{rest} ки", "label": f"{problem} {first} +\n{rest} -"}
    ((record,), _) = read("math_shepherd", write(tmp_path, row))
    assert (record.problem, record.steps, record.ratings) == (problem, (first, rest), (1, -1))


@pytest.mark.parametrize(
    "row, message",
    [
        ({"input": "q Step 1: a"}, "no field 'label'"),
        ({"input": "q Step 1: a", "label": "q Step 1: a"}, "'input' has no placeholder"),
        ({"input": "q Step 1: a ки", "label": "q Step 1: a 0"}, r"before placeholder 1, or has no \+ or - there"),
        ({"input": "q Step 1: a ки\nb ки", "label": "q Step 1: a +\nc +"}, "before placeholder 2"),
        ({"input": "q Step 1: a ки", "label": "q Step 1: a + b"}, "after the last placeholder"),
        ({"input": "q a ки", "label": "q a +"}, "no 'Step 1:'"),
    ],
)
def test_math_shepherd_malformed(row, message, tmp_path):
    with pytest.raises(UserError, match=rf"rows\.jsonl:1: .*{message}"):
        read("math_shepherd", write(tmp_path, row))


def test_omegaprm_paths_of_the_tree():
    records, tally = read("omegaprm", HERE / "math_shepherd" / "omegaprm.jsonl", shared_labels="all")
    raw = json.loads((HERE / "math_shepherd" / "omegaprm.jsonl").read_text())
    values = {}
    for entry in raw["reasoning_steps"]:
        values.setdefault(entry["solution_prefix"], []).append(entry["mc_value"])
    root = values.pop(raw["question"])
    means = {prefix: sum(v) / len(v) for prefix, v in values.items()}
    leaves = [p for p in values if not any(q != p and q.startswith(p) for q in values)]
    assert len(records) == len(leaves) == 5 and {len(r.steps) for r in records} == {1, 2, 3}
    for record in records:
        text = raw["question"]
        for step, value in zip(record.steps, record.values, strict=True):
            text = next(p for p in values if p.startswith(text) and p[len(text) :].strip() == step)
            assert value == pytest.approx(means[text], abs=1e-6)
        assert text in leaves and record.extra["value_of_problem"] == root[0] == 0.375
        assert record.answer == raw["final_answer"] and record.kind == "value"
    assert [r.correct for r in records].count(True) == 4
    assert tally.noted == {"prefixes estimated more than once, their values averaged": 3}
    once, _ = read("omegaprm", HERE / "math_shepherd" / "omegaprm.jsonl")
    assert sum(r.labelled for r in once) == len(means) < sum(r.labelled for r in records)


def test_prmbench():
    records, tally = read("prmbench", HERE / "prmbench" / "samples.jsonl")
    circular = records[0]
    assert circular.ratings == (1, -1, -1, -1, 1, 1) and circular.first_error == 1
    assert circular.extra["classification"] == "circular" and circular.id == "prm_train_p1_0/circular"
    assert records[1].labeller == "original" and records[1].first_error == -1 and set(records[1].ratings) == {1}
    assert tally.dropped["solutions whose error_steps lie beyond the last step"] == 1
    assert tally.dropped["original solutions given before"] == 3  # one problem in four files
    assert len(records) == 6 + 6 - 1 - 3 and len({r.share() for r in records}) == 3
    planted, tally = read("prmbench", HERE / "prmbench" / "samples.jsonl", originals=False, useless="neutral")
    assert len(planted) == 5 and tally.dropped["original solutions (originals=False)"] == 6
    assert planted[0].ratings == (1, 0, 0, 0, 1, 1) and planted[0].first_error == -1
    assert next(r for r in planted if r.extra["classification"] == "confidence").ratings.count(-1) == 1


def test_processbench_trl_gsm8k_and_math(tmp_path):
    row = {"id": "gsm8k-0", "generator": "g", "problem": "p", "steps": ["a", "b", "c"], "final_answer_correct": False}
    records, _ = read("processbench", write(tmp_path, {**row, "label": 1}, {**row, "label": -1}))
    assert [r.ratings for r in records] == [(1, -1, None), (1, 1, 1)] and [r.first_error for r in records] == [1, -1]
    with pytest.raises(UserError, match=r":1: field 'label' is 3, but there are 3 steps"):
        read("processbench", write(tmp_path, {**row, "label": 3}))

    row = {"prompt": "p", "completions": ["a", "b"]}
    chat = [{"role": "user", "content": "p"}]
    rows = [{**row, "labels": [True, False]}, {**row, "labels": [0.25, 1]}, {**row, "labels": [1, 0], "prompt": chat}]
    records, _ = read("trl", write(tmp_path, *rows), kind="prefix")
    assert [r.ratings for r in records] == [(1, -1), (None, None), (1, -1)] and records[1].values == (0.25, 1.0)
    assert [r.first_error for r in records] == [1, None, 1] and {r.kind for r in records} == {"prefix"}
    assert records[2].problem == "p"
    with pytest.raises(UserError, match="1 labels, but 2 completions"):
        read("trl", write(tmp_path, {**row, "labels": [True]}))
    with pytest.raises(UserError, match=r"'labels': entry 0 must be true, false or a number in \[0, 1\], not -1"):
        read("trl", write(tmp_path, {**row, "labels": [-1, 1]}))

    records, _ = read("gsm8k", write(tmp_path, {"question": "q", "answer": "a <<1+1=2>>2\nb\n#### 1,002"}))
    assert records[0].steps == ("a <<1+1=2>>2", "b", "#### 1,002") and records[0].answer == "1,002"
    assert records[0].labelled == 0 and records[0].correct is True
    with pytest.raises(UserError, match="no line '#### …'"):
        read("gsm8k", write(tmp_path, {"question": "q", "answer": "a"}))

    row = {"problem": "p", "solution": "a.\n\nSo $\\boxed{\\frac{1}{2}}$.", "level": "Level 5", "subject": "Algebra"}
    records, _ = read("math", write(tmp_path, row), references="good")
    assert records[0].ratings == (1, 1) and records[0].answer == "\\frac{1}{2}" and records[0].first_error == -1
    assert records[0].extra == {"level": "Level 5", "subject": "Algebra"}


def test_all_containers_of_rows(tmp_path):
    rows = [{"prompt": f"p{i}", "completions": ["a" * 100], "labels": [True]} for i in range(300)]
    want = [row["prompt"] for row in rows]
    write(tmp_path, *rows)
    text = (tmp_path / "rows.jsonl").read_bytes()
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(text))
    (tmp_path / "c.json").write_text(json.dumps(rows, indent=2))
    (tmp_path / "notes.txt").write_text("not data")
    pyarrow = pytest.importorskip("pyarrow")
    pyarrow.parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "d.parquet")
    records, tally = read("trl", tmp_path)
    assert [r.problem for r in records] == want * 4 and tally.rows == 1200
    assert records[300].place.endswith("c.json:2") and records[301].place.endswith("c.json:11")
    assert records[-1].place.endswith("rows.jsonl:300") and records[899].place.endswith("d.parquet:300")
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(text)[:-20])
    with pytest.raises(UserError, match=r"b\.jsonl\.gz: cannot be read"):
        read("trl", tmp_path)
    (tmp_path / "c.json").write_text(json.dumps(rows)[:-10])
    with pytest.raises(UserError, match=r"c\.json:1: not JSON"):
        read("trl", tmp_path / "c.json")
    (tmp_path / "d.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(UserError, match=r"d\.parquet: not a readable Parquet file"):
        read("trl", tmp_path / "d.parquet")
    with pytest.raises(UserError, match="no such file or folder"):
        read("trl", tmp_path / "e")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"the folder holds no \*\.jsonl"):
        read("trl", tmp_path / "empty")


def test_an_array_larger_than_one_piece(tmp_path, monkeypatch):
    from stepjax.data import rows as module

    monkeypatch.setattr(module, "_PIECE", 7)
    values = [{"prompt": f"p{i}", "completions": ["é\n[]{}"], "labels": [1]} for i in range(20)]
    (tmp_path / "a.json").write_text("\n [" + ",\n".join(json.dumps(v, ensure_ascii=False) for v in values) + "\n]\n")
    records, _ = read("trl", tmp_path / "a.json")
    assert [r.problem for r in records] == [v["prompt"] for v in values]
    assert [r.place.rpartition(":")[2] for r in records] == [str(2 + i) for i in range(20)]


def test_malformed_rows_are_named_or_set_aside(tmp_path):
    good = {"problem": "p", "steps": ["a"], "ratings": [1]}
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps(good), "{broken", json.dumps({**good, "ratings": [5]}), "[1]", json.dumps(good)]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(
        UserError, match=r"rows\.jsonl:2: not JSON.*; config\.data\.skip_bad=FILE sets such rows aside$"
    ):
        read("records", path)
    aside = tmp_path / "folder" / "bad.jsonl"
    records, tally = read("records", path, skip_bad=str(aside))
    assert [r.place.rpartition(":")[2] for r in records] == ["1", "5"]
    assert tally.rows == 5 and tally.dropped == {"malformed rows, set aside": 3}
    found = [json.loads(line) for line in aside.read_text().splitlines()]
    assert [f["place"] for f in found] == [f"{path}:{n}" for n in (2, 3, 4)]
    assert [f["row"] for f in found][:2] == ["{broken\n", lines[2]]
    assert "ratings: step 0 has 5" in found[1]["error"] and "not JSON" in found[0]["error"]


def test_options_that_name_nothing():
    with pytest.raises(UserError, match=r"config\.data\.source='prm80k': no such format \(did you mean 'prm800k'\?\)"):
        read("prm80k", "x")
    with pytest.raises(UserError, match=r"config\.data\.path: name the file"):
        read("prm800k", "")
