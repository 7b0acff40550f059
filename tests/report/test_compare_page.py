"""The page of a comparison, and what its rows are named by."""

import base64
import dataclasses
import hashlib
import json
import re
from pathlib import Path

import pytest

from stepjax.cli import main
from stepjax.config import Config, StreamOptions
from stepjax.report.compare import experiments
from stepjax.report.compare_page import line_names, overlaid, side_by_side, write_comparison
from stepjax.report.differing import differing, in_short, same_experiment


def run(folder: Path, *, right: bool, accuracy: float, seed: int = 0, kl: float = 0.0) -> Path:
    """A work directory with two rounds, an evaluation and its responses."""
    (folder / "responses").mkdir(parents=True)
    options = dataclasses.asdict(Config(seed=seed))
    options["ppo"]["kl"] = kl
    (folder / "config.json").write_text(json.dumps(options))
    rounds = [
        {"step": i, "stage": "ppo", "true/accuracy": accuracy * i, "kl/reference": 0.1 * i, "seconds": {"score": 1.0}}
        for i in (1, 2)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in rounds) + '{"cut')
    (folder / "eval.json").write_text(json.dumps({"rows": {"ppo": {"accuracy": accuracy}}}))
    rows = [
        {"id": "test/0/0", "problem": "<b>1+1</b>", "answer": "2", "correct": True, "steps": ["2"], "extra": {}},
        {
            **{"id": "test/1/0", "problem": "2+3", "answer": "5", "correct": right, "steps": ["2+3", "=?"]},
            "extra": {"prm": [0.25, 0.75], "unfinished": not right},
        },
    ]
    (folder / "responses" / "ppo-test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def runs(tmp_path):
    return [
        run(tmp_path / "a-s0", right=True, accuracy=0.4),
        run(tmp_path / "a-s1", right=True, accuracy=0.2, seed=1),
        run(tmp_path / "b-s0", right=False, accuracy=0.1, kl=0.5),
    ]


def test_curves_are_means_over_seeds_laid_over_each_other(runs):
    charts = dict(overlaid(experiments(runs)))
    assert list(charts) == ["true/accuracy", "kl/reference"], "no timings; the most important one first"
    assert [(chart.title, chart.unit) for chart in charts.values()] == [
        ("Right answers", "share"),
        ("Distance from the reference", "KL, nats"),
    ]
    a, b = charts["true/accuracy"].lines
    assert [(line.name, line.tone) for line in (a, b)] == [("a", "s1"), ("b", "s2")]
    assert a.points == [(1, pytest.approx(0.3)), (2, pytest.approx(0.6))] and b.points[1] == (2, 0.2)


def test_a_row_keeps_its_name_and_colour_where_it_is_alone_in_a_chart(runs, tmp_path):
    with (runs[2] / "metrics.jsonl").open("w") as file:
        file.write(json.dumps({"step": 1, "stage": "ppo", "reward/other": 1.0}) + "\n")
    rows = experiments(runs)
    (line,) = dict(overlaid(rows))["reward/other"].lines
    assert (line.name, line.tone) == ("b", "s2")
    page = write_comparison(rows, tmp_path / "page.html").read_text()
    assert page.count('class="key s2"') == 2, "in the heading and over its one chart"
    assert line_names([rows[0], rows[0]]) == [("a (1)", "s1"), ("a (2)", "s2")]


def test_problems_that_are_graded_differently_come_first(runs):
    asked = side_by_side(experiments(runs))
    assert [str(one.answer) for one in asked] == ["5", "2"]
    assert [(one.stage, one.correct, one.truncated) for one in asked[0].answers] == [
        ("a", True, False),
        ("b", False, True),
    ]
    assert [(step.p, step.tone) for step in asked[0].answers[0].steps] == [("0.25", -2), ("0.75", 2)]
    assert asked[1].problem == "&lt;b&gt;1+1&lt;/b&gt;", "texts of models are escaped"
    (runs[2] / "responses" / "ppo-test.jsonl").unlink()
    assert [len(one.answers) for one in side_by_side(experiments(runs))] == [1, 1]


def test_the_command_writes_a_page_without_a_network(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (runs[2] / "eval.json").unlink()
    assert main(["compare", *map(str, runs), "--html=page.html"]) == 0
    assert capsys.readouterr().out.endswith("page.html\n")
    page = (tmp_path / "page.html").read_text()
    script = re.search(r"<script>(.*?)</script>", page, re.S)
    assert script and base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode() in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    assert f"{runs[2]}: not evaluated" in page and "2+3" in page and "<b>1+1" not in page
    assert main(["compare", str(runs[0]), "--html"]) == 0 and (tmp_path / "compare.html").is_file()
    assert main(["compare", str(runs[0]), "--html=no/where.html"]) == 2


def test_rows_are_named_by_the_options_in_which_they_differ():
    plain = dataclasses.asdict(Config())
    other = json.loads(json.dumps(plain))
    other["ppo"]["streams"] = {
        "process": {"signal": "prm", "horizon": "response"},  # as an earlier version wrote it: the rest has defaults
        "outcome": dataclasses.asdict(StreamOptions(signal="outcome", weight=0.5)),
    }
    other |= {"seed": 3, "base": "x"}
    other["mesh"]["fsdp"] = 8
    other["eval"]["problems"] = 3
    other["ppo"]["streams"]["process"]["signal"] = "verifier"
    del other["lora"]
    changed = differing([same_experiment(options) for options in (plain, json.loads(json.dumps(other)))])
    assert sorted(changed[0]) == ["ppo.streams.outcome=none", "ppo.streams.process.signal=prm"]
    assert sorted(changed[1]) == [
        "ppo.streams.outcome.signal=outcome",
        "ppo.streams.outcome.weight=0.5",
        "ppo.streams.process.horizon=response",
        "ppo.streams.process.signal=verifier",
    ]
    assert differing([same_experiment(plain)] * 2) == [[], []]
    damaged = differing([same_experiment(plain), same_experiment({"ppo": None})])
    assert damaged[1] == ["ppo.streams.process=none"], "a damaged file is compared as far as it goes"
    assert in_short("a", []) == "a" and in_short("a", list("bcdefg")) == "a: b, c, d, e and 2 more"
    assert in_short("a", ["prm.rows=1", "ppo.kl=2"]) == "a: ppo.kl=2, prm.rows=1"
