"""`stepjax eval` of labels and of process reward models, on a tiny run and on files."""

import json
from pathlib import Path

import numpy as np
import pytest
from runs.tiny_run import TinyRun, stepjax

from stepjax.data.schema import LabelledSolution, line
from stepjax.errors import UserError
from stepjax.evaluation.labels import label_pair
from stepjax.evaluation.prm import known_ratings, subset_of
from stepjax.evaluation.records import is_tuning, match, read_records
from stepjax.evaluation.scorer import p_right, spread
from stepjax.report.measures import measures
from stepjax.report.tables import TABLES
from stepjax.workdir.json_file import plain


def write_records(path: Path, records: list[LabelledSolution]) -> Path:
    path.write_text("".join(map(line, records)), encoding="utf-8")
    return path


def solution(name: str, ratings: tuple, **more) -> LabelledSolution:
    steps = tuple(f"b={k}" for k in range(len(ratings)))
    return LabelledSolution(f"a=3;b=a+{name};?b\n", steps, ratings=ratings, id=f"one-{name}", **more)


GOLD = [solution("1", (1, 1, 1)), solution("2", (1, -1, None), first_error=1), solution("3", (0, 1, -1))]
FOUND = [
    solution("3", (1, 1, -1), labeller="a", completions=(8, 8, 8), tokens=(10, None, 20)),
    solution("1", (1, -1, 1), labeller="b"),
    solution("9", (1,), labeller="b"),
    LabelledSolution(GOLD[1].problem, GOLD[1].steps, values=(0.9, 0.2, 0.4), kind="value", id="one-2", labeller="b"),
]


def measured(tiny: TinyRun, folder: Path, kind: str, *options: str) -> dict:
    """eval.json after one evaluation in a copy of the tiny run."""
    workdir = folder / "run"
    if not workdir.exists():
        tiny.copy(workdir)
    assert stepjax("eval", tiny.config, workdir, f"--config.kind={kind}", *options) == 0
    return json.loads((workdir / "eval.json").read_text())


def test_labels_against_gold_and_beside_other_figures(tiny, tmp_path, capsys):
    data, gold = write_records(tmp_path / "found.jsonl", FOUND), write_records(tmp_path / "gold.jsonl", GOLD)
    before = json.loads((tiny.workdir / "eval.json").read_text())
    found = measured(tiny, tmp_path, "labels", f"--config.eval.data={data}", f"--config.eval.gold={gold}")
    assert {k: v for k, v in found.items() if k != "measures"} == before, "what else was measured stays"
    labels = found["measures"]["labels"]
    assert labels["unmatched"] == {"data": 1, "gold": 0} and labels["solutions"] == 3
    # Steps by hand: (gold, found) of solutions 3, 1, 2; the third step of 2 has no gold label.
    pairs = [(0, 1), (1, 1), (-1, -1), (1, 1), (1, -1), (1, 1), (1, 1), (-1, -1)]
    assert labels["steps"] == len(pairs)
    assert labels["three"]["accuracy"] == pytest.approx(np.mean([a == b for a, b in pairs]))
    assert labels["two"]["accuracy"] == pytest.approx(7 / 8)
    assert labels["first_error"]["same"] == pytest.approx(2 / 3)
    assert labels["first_error"]["has_error"] == pytest.approx(4 / 5), "two found rightly, one invented"
    assert labels["cost"] == {"completions": {"labels": 3, "each": 8.0}, "tokens": {"labels": 2, "each": 15.0}}
    assert set(labels["labellers"]) == {"a", "b"}
    assert "Labels against gold labels" in capsys.readouterr().out
    assert "Labels against gold labels" in (tmp_path / "run" / "report.html").read_text()
    # And the evaluation of policies keeps it in turn.
    found = measured(tiny, tmp_path, "policies")
    assert found["measures"]["labels"] == labels and found["rows"] == before["rows"]


def test_a_reward_model_against_the_verifier_and_its_choices(tiny, tmp_path, capsys):
    found = measured(tiny, tmp_path, "prm")
    prm = found["measures"]["prm"]
    # The evaluation of policies has classified steps of the same problems under the same keys.
    policies = found["prm"]["sft"]
    assert prm["classes"]["confusion"] == policies["confusion"]
    assert prm["classes"]["accuracy"] == pytest.approx(policies["accuracy"])
    assert prm["steps"]["steps"] == policies["steps"] == sum(row["steps"] for row in prm["steps"]["by_position"])
    assert prm["outcome"]["right"] == pytest.approx(found["rows"]["sft"]["accuracy"])
    assert sum(prm["steps"]["reliability"]["count"]) == prm["steps"]["steps"]
    assert set(prm["outcome"]["auc"]) == {"min", "product", "last", "mean"}
    found = measured(tiny, tmp_path, "best_of_n", "--config.eval.pool=4", "--config.eval.resamples=20")
    choice = found["measures"]["best_of_n"]
    assert choice["sizes"] == [1, 2, 4] and "prm" in found["measures"]
    curves = choice["curves"]
    first = curves["pass"]["mean"][0]
    assert all(curve["mean"][0] == pytest.approx(first) for name, curve in curves.items() if name.startswith("best/"))
    for name, curve in curves.items():
        noise = 1e-9 if name.startswith("best/") else 0.1  # votes are resampled
        assert all(a <= b + noise for a, b in zip(curve["mean"], curves["pass"]["mean"], strict=True)), name
        assert all(a <= b + 1e-9 for a, b in zip(curve["low"], curve["high"], strict=True)), name
        assert curve["spread"][-1] == pytest.approx(0.0), "the whole pool is one subset"
    shown = capsys.readouterr().out
    assert "pass@N" in shown and "P(right) against the true ratings" in shown
    report = (tmp_path / "run" / "report.html").read_text()
    assert "Selection among N responses" in report and report.count("log₂ N") >= 3


def test_first_errors_and_planted_errors_on_files(tiny, tmp_path):
    rows = [
        {"id": f"{part}-{k}", "problem": f"a=3;b=a+{k};?b", "steps": [f"b=3+{k}={3 + k}", f"?{3 + k}"], "label": label}
        for part, k, label in (("gsm8k", 1, -1), ("gsm8k", 2, 0), ("math", 0, 1), ("math", 1, -1))
    ]
    data = tmp_path / "bench.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = (f"--config.eval.data={data}", "--config.eval.source=processbench")
    found = measured(tiny, tmp_path, "processbench", *common, "--config.eval.tuning=0.5")["measures"]["processbench"]
    assert set(found["subsets"]) == {"gsm8k", "math"}
    assert (found["all"]["fixed"]["wrong"], found["all"]["fixed"]["right"]) == (2, 2)
    f1 = [of["fixed"]["f1"] for of in found["subsets"].values()]
    assert found["mean_f1"] == pytest.approx(np.mean(f1))
    strict = measured(tiny, tmp_path, "processbench", *common, "--config.eval.threshold=1.1")["measures"]
    assert strict["processbench"]["all"]["fixed"]["correct"] == 0.0, "above 1 every first step is wrong"
    assert strict["processbench"]["all"]["fixed"]["error"] == 0.5
    planted = {
        "original_question": "a=3;b=a+1;?b",
        "modified_question": "a=3;b=a+1;?b",
        "original_process": ["b=3+1=4", "?4"],
        "modified_process": ["b=3+1=4", "a=3", "?4"],
        "error_steps": [2],
        "classification": "circular",
        "idx": "x",
    }
    other = planted | {"modified_process": ["b=3+1=3", "?3"], "error_steps": [1, 2], "classification": "confidence"}
    data.write_text("".join(json.dumps(row) + "\n" for row in (planted, other)))
    found = measured(
        tiny, tmp_path, "prmbench", f"--config.eval.data={data}", "--config.eval.source=prmbench",
        "--config.data.originals=False",
    )["measures"]["prmbench"]  # fmt: skip
    assert found["usefulness"]["solutions"] == found["truth"]["solutions"] == 1
    assert {kind: of["steps"] for kind, of in found["kinds"].items()} == {"circular": 3, "confidence": 2}
    assert found["all"]["steps"] == 5


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("labels", [], "config.eval.data and config.eval.gold: kind labels needs both files"),
        ("labels", ["--config.eval.data=no.jsonl", "--config.eval.gold=no.jsonl"], "no.jsonl: "),
        ("processbench", [], "config.eval.data: kind processbench needs a file of step-labelled"),
        ("processbench", ["--config.eval.data={empty}"], "no step-labelled solutions there"),
        ("processbench", ["--config.eval.data={odd}"], "odd.jsonl:2: ratings: step 0 has 7"),
        ("best_of_n", ["--config.eval.temperature=0.0"], "config.eval.temperature"),
        ("best_of", [], "did you mean|must be one of"),
    ],
)
def test_mistakes_are_one_line(tiny, tmp_path, capsys, kind, options, words):
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "odd.jsonl").write_text(
        line(GOLD[0]) + json.dumps({"problem": "p", "steps": ["s"], "ratings": [7]}) + "\n"
    )
    options = [o.format(empty=tmp_path / "empty.jsonl", odd=tmp_path / "odd.jsonl") for o in options]
    workdir = tiny.copy(tmp_path / "run")
    assert stepjax("eval", tiny.config, workdir, f"--config.kind={kind}", *options) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and any(word in told for word in words.split("|")), told


def test_solutions_are_matched_by_id_or_by_text():
    assert match(FOUND, GOLD) == [(0, 2), (1, 0), (3, 1)]
    nameless = [LabelledSolution(r.problem, r.steps, ratings=r.ratings) for r in FOUND]
    assert match(nameless, GOLD) == [(0, 2), (1, 0), (3, 1)]
    with pytest.raises(UserError, match="two rows have the id 'one-1'"):
        match([GOLD[0], GOLD[0]], GOLD)
    with pytest.raises(UserError, match=r"has 1 steps, in config\.eval\.gold 3"):
        match([LabelledSolution("p", ("s",), id="one-1")], GOLD)


def test_values_are_ratings_at_a_threshold():
    assert label_pair(FOUND[3], GOLD[1], 0.5).found == (1, -1, -1)


def test_a_cut_off_step_has_no_rating_and_a_step_without_token_its_predecessors_score():
    class Rated:
        rating = 1

    assert known_ratings([Rated, Rated], True, 2) == [1, 1]
    assert known_ratings([Rated, Rated], False, 2) == [1, None]
    assert known_ratings([], True, 2) == [None, None]
    scores = np.array([[0.1], [0.2]])
    index, end = np.array([0, 0, 2, 2]), np.array([False, True, False, True])
    assert spread(scores, index, end, 4)[:, 0].tolist() == [0.1, 0.1, 0.2, 0.2]
    assert spread(np.zeros((0, 3)), index[:0], end[:0], 2).shape == (2, 3)
    assert p_right(np.array([[0.25, 0.5, 0.25]])).tolist() == [0.75]


def test_the_tuning_part_is_its_share_and_always_the_same():
    chosen = [is_tuning(str(i), 0.3) for i in range(2000)]
    assert np.mean(chosen) == pytest.approx(0.3, abs=0.03)
    assert chosen == [is_tuning(str(i), 0.3) for i in range(2000)] and not any(is_tuning(str(i), 0.0) for i in range(9))


def test_subsets_by_name():
    assert subset_of(LabelledSolution("p", ("s",), id="omnimath-17")) == "omnimath"
    assert subset_of(LabelledSolution("p", ("s",), id="17", source="mine")) == "mine"


def test_several_files_are_one(tmp_path):
    one, two = write_records(tmp_path / "1.jsonl", GOLD[:1]), write_records(tmp_path / "2.jsonl", GOLD[1:])
    assert read_records(f"{one}, {two}", "config.eval.data") == GOLD


def test_json_has_no_nan():
    assert plain({"a": np.float64("nan"), 3: (np.arange(2), [np.bool_(True)]), "b": float("inf")}) == {
        "a": None,
        "3": [[0, 1], [True]],
        "b": None,
    }


@pytest.mark.parametrize("found", [None, [], {"prm": 3}, {kind: {} for kind in TABLES}, {"best_of_n": {"sizes": "x"}}])
def test_a_report_of_odd_files_is_written_all_the_same(found):
    assert all(m.tables or not m.charts for m in measures(found))


def test_model_text_in_labels_is_escaped(tiny, tmp_path):
    bad = "<script>alert(1)</script>"
    records = [LabelledSolution("p", ("s",), ratings=(1,), id="x-1", labeller=name) for name in (bad,)]
    records.append(LabelledSolution("q", ("s",), ratings=(1,), id="x-2", labeller="b"))
    path = write_records(tmp_path / "a.jsonl", records)
    measured(tiny, tmp_path, "labels", f"--config.eval.data={path}", f"--config.eval.gold={path}")
    report = (tmp_path / "run" / "report.html").read_text()
    assert bad not in report and "&lt;script&gt;alert(1)" in report
