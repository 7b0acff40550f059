"""The table of policies, for people."""

import json

import pytest
from runs.tiny_run import OPTIONS, TinyRun, lines

from stepjax.evaluation.policies import show
from stepjax.tasks.register_chain import RegisterChain, RegisterChainConfig


def test_the_table_shows_what_is_known(monkeypatch):
    tables = []
    monkeypatch.setattr("stepjax.evaluation.policies.table", lambda *args: tables.append(args))
    figures = {"accuracy": 0.25, "steps": 4.25, "trace_error": 0.5, "truncated": 0.0}
    found = {
        "problems": 64,
        "split": "test",
        "temperature": 1.0,
        "rows": {"sft": figures, "ppo": {"accuracy": 0.75, "steps": 3.0, "truncated": 0.125}},
        "prm": {"sft": {"macro_f1": 0.8125}},
    }
    show(found)
    ((title, columns, lines),) = tables
    assert title == "64 test problems, temperature 1"
    assert columns == ["", "after SFT", "after step-level PPO"]
    assert lines == [
        ["Right answers", "25.0 %", "75.0 %"],
        ["Right answers with a wrong step (trace error)", "50.0 %", "–"],
        ["Steps a response", "4.2", "3.0"],
        ["Responses cut off at the limit", "0.0 %", "12.5 %"],
        ["PRM macro-F1 on its steps (sft)", "0.812", ""],
    ], "rows that no policy has are left out"


def test_figures_of_the_tasks_own_are_evaluated_and_logged(tiny: TinyRun) -> None:
    chain = {name.split(".")[-1]: value for name, value in OPTIONS.items() if "register_chain" in name}
    task = RegisterChain(RegisterChainConfig(**chain))
    problems = {p.text: p for p in task.problems("test")[: OPTIONS["eval.problems"]]}
    found = json.loads((tiny.workdir / "eval.json").read_text())["rows"]
    for stage, figures in found.items():
        rows = [json.loads(r) for r in (tiny.workdir / "responses" / f"{stage}-test.jsonl").read_text().splitlines()]
        expected = task.measures([problems[row["problem"]] for row in rows], [row["steps"] for row in rows])
        assert {"tries", "false_repairs"} & expected.keys()
        assert {name: figures[name] for name in expected} == pytest.approx(expected)
        inside = [n.removesuffix("_interval") for n in figures if n.endswith("_interval")]
        assert {"accuracy", "bad", "truncated", "steps"} <= set(inside)
        assert all(figures[f"{n}_interval"][0] <= figures[n] <= figures[f"{n}_interval"][1] for n in inside)
        assert {"recovery", "false_repairs"} & figures.keys() == {"recovery", "false_repairs"} & expected.keys()
    assert set(found) == {"sft", "ppo"}
    assert all("true/tries" in line for line in lines(tiny.workdir, "ppo"))
