"""Runs whose responses an environment answers over turns: what is refused, resumed, counted and shown."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from runs.test_calculator_run import write_gsm8k
from runs.tiny_run import (
    OPTIONS,
    TinyRun,
    arrays,
    kill_when,
    lines,
    made_once,
    start,
    stepjax,
    write_config,
)
from tasks import own_environments

slow = pytest.mark.slow
GUESS = {name: value for name, value in OPTIONS.items() if not name.startswith(("prm.", "task."))} | {
    "stages": ("sft", "ppo"),
    "task.name": "guess",
    "environment.name": "guess",
    "environment.reply_tokens": 4,
    "environment.steps": 4,
    "ppo.iterations": 5,
    "ppo.slots": 6,
    "ppo.prompt_tokens": 8,
    "ppo.max_new_tokens": 24,
    "ppo.log_samples": 16,
    "ppo.samples_every": 1,
    "sft.updates": 60,
    "eval.problems": 16,
    "eval.rows": 16,
}
STREAMS = """{
        "turn": stream(signal="environment", unit="turn", horizon="response"),
        "own": stream(signal="environment", horizon="turn", critic=False, estimator="return"),
        "outcome": stream(signal="outcome", horizon="response", bad=0.0, weight=0.5),
    }"""


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory, compiled_once: Path) -> Path:
    """A folder with a config and the finished run of it."""
    os.environ["STEPJAX_QUIET"] = "1"

    def train(folder: Path) -> None:
        config = write_config(folder / "guess.py", GUESS, streams=STREAMS)
        assert stepjax("quickstart", config, folder / "run") == 0

    return made_once(tmp_path_factory, "guess", train)


@slow
def test_metrics_and_samples_say_what_ended_the_responses(played: Path) -> None:
    for line in lines(played / "run", "ppo"):
        assert line["environment/done"] + line["environment/tokens"] == 1.0
        assert line["reward/turn"] == pytest.approx(line["environment/reward"], abs=1e-5)
        assert line["mismatch/max"] < 1e-4
        assert 1.0 <= line["environment/answered"] <= 4.0
    rows = lines(played / "run", "ppo", "samples.jsonl")
    assert len(rows) == 5 * 16
    for row in rows:
        assert row["ended"] in ("done", "tokens") and (row["ended"] == "done") == (not row["truncated"])
        if row["ended"] == "done":
            assert row["correct"] == (row["turns"][-1] == 1.0) and len(row["turns"]) <= 4
            assert set(row["turns"][:-1]) <= {-0.1}
            assert sum(step["rewards"]["turn"] for step in row["steps"]) == pytest.approx(sum(row["turns"]), abs=1e-3)
        written = [step["text"].strip() for step in row["steps"] if not step["tokens"]]
        assert set(written) <= {"higher", "lower", "?"}
        assert row["replies"] == [number for number, step in enumerate(row["steps"]) if not step["tokens"]]
    assert any(row["replies"] for row in rows)
    figures = json.loads((played / "run" / "eval.json").read_text())["rows"]["ppo"]
    assert "environment/reward" in figures
    file = played / "run" / "responses" / "ppo-test.jsonl"
    records = [json.loads(line) for line in file.read_text().splitlines()]
    own = [len(record["steps"]) - len(record["extra"].get("replies", ())) for record in records]
    assert figures["steps"] == pytest.approx(sum(own) / len(own)), "hints are no steps of the policy's"


def assert_same_but_for_rounding(ours: Path, theirs: Path) -> None:
    """All is the same bit by bit, but what the rollout's own log-probabilities are compared with: the order of their
    sums depends on when replies came."""
    for mine, other in zip(lines(ours, "ppo"), lines(theirs, "ppo"), strict=True):
        for name in ("mismatch/mean", "mismatch/max"):
            assert mine.pop(name) == pytest.approx(other.pop(name), abs=1e-5)
        assert mine == other
    assert lines(ours, "ppo", "samples.jsonl") == lines(theirs, "ppo", "samples.jsonl")
    found, expected = arrays(ours, "ppo"), arrays(theirs, "ppo")
    assert {name: x.tobytes() for name, x in found.items()} == {name: x.tobytes() for name, x in expected.items()}


@slow
def test_a_run_that_is_killed_in_a_round_goes_on_with_the_same_numbers(played: Path, tmp_path: Path) -> None:
    workdir = TinyRun(played / "guess.py", played / "run").copy(tmp_path / "run", without=("ppo",))
    process = start("ppo", played / "guess.py", workdir)
    assert kill_when(process, lambda: len(lines(workdir, "ppo")) >= 3, after=0.1)
    assert len(lines(workdir, "ppo")) < 5
    assert stepjax("ppo", played / "guess.py", workdir) == 0
    assert_same_but_for_rounding(workdir, played / "run")


@slow
def test_eight_devices_and_other_slots_and_processes_have_the_same_tokens(played: Path, tmp_path: Path) -> None:
    workdir = TinyRun(played / "guess.py", played / "run").copy(tmp_path / "run", without=("ppo",))
    more = ("--config.mesh.data=8", "--config.ppo.slots=0", "--config.environment.processes=3")
    assert stepjax("ppo", played / "guess.py", workdir, *more, "--config.environment.steps=1") == 0
    for ours, theirs in zip(lines(workdir, "ppo"), lines(played / "run", "ppo"), strict=True):
        for name in ("environment/reward", "reward/own", "true/accuracy", "value_loss/turn", "loss/policy"):
            if name in theirs:
                assert ours[name] == pytest.approx(theirs[name], abs=2e-4), name
    ours, theirs = (lines(folder, "ppo", "samples.jsonl") for folder in (workdir, played / "run"))
    assert [row["response"] for row in ours] == [row["response"] for row in theirs]
    assert [row["turns"] for row in ours] == [row["turns"] for row in theirs]


@slow
def test_environments_that_fail_end_their_rows_and_not_the_run(
    played: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    options = GUESS | {"ppo.iterations": 2, "environment.name": f"{own_environments.__name__}:Moody"}
    options |= {"environment.seconds": 0.5, "environment.reply_tokens": 4}
    config, workdir = write_config(tmp_path / "moody.py", options, streams=STREAMS), tmp_path / "run"
    monkeypatch.delenv("STEPJAX_QUIET")
    assert stepjax("quickstart", config, workdir) == 0
    counted = [sum(line[f"environment/{c}"] for line in lines(workdir, "ppo")) for c in own_environments.MOODS]
    assert all(share > 0 for share in counted), counted
    said = capfd.readouterr()
    assert f"environment {own_environments.__name__}:Moody: problem train/" in said.out + said.err
    assert "Traceback" not in said.err
    ended = {row["ended"] for row in lines(workdir, "ppo", "samples.jsonl")}
    assert {"raised", "malformed"} <= ended


@slow
def test_the_calculator_over_turns_writes_what_it_writes_in_the_loop(tmp_path: Path, compiled_once: Path) -> None:
    options = OPTIONS | {
        "stages": ("sft", "ppo"),
        "task.name": "gsm8k",
        "task.gsm8k": str(write_gsm8k(tmp_path / "gsm8k")),
        "tokenizer.vocab": 320,
        "sft.row_tokens": 64,
        "sft.updates": 60,
        "ppo.max_new_tokens": 40,
        "ppo.iterations": 1,
        "ppo.log_samples": 16,
    }
    streams = '{"outcome": stream(signal="outcome", horizon="response", bad=0.0)}'
    first = write_config(tmp_path / "loop.py", options | {"ppo.environment": "calculator"}, streams=streams)
    over = options | {"environment.name": "calculator", "environment.reply_tokens": 16}
    second = write_config(tmp_path / "turns.py", over, streams=streams)
    found = []
    for config, name in ((first, "loop"), (second, "turns")):
        assert stepjax("sft", config, tmp_path / name) == 0
        assert stepjax("ppo", config, tmp_path / name) == 0
        found.append(lines(tmp_path / name, "ppo", "samples.jsonl"))
    assert arrays(tmp_path / "loop", "sft").keys() == arrays(tmp_path / "turns", "sft").keys()
    same = [a["response"] == b["response"] for a, b in zip(*found, strict=True)]
    cut = [b["ended"] == "tokens" for b in found[1]]
    assert all(equal or truncated for equal, truncated in zip(same, cut, strict=True)) and sum(same) > 8
    assert any(">>" in row["response"] for row in found[1])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ppo.carry": 1, "ppo.importance_cap": 2.0}, "config.ppo.carry: not with environment.name=guess: "),
        ({"ppo.stale": True, "ppo.importance_cap": 2.0}, "config.ppo.stale: not with environment.name=guess: "),
        ({"ppo.waves": 2}, "config.ppo.waves: not with environment.name=guess: "),
        ({"ppo.environment": "calculator"}, "config.ppo.environment: not with environment.name=guess: "),
        ({"environment.name": ""}, "config.environment.reply_tokens: no environment is named"),
        ({"environment.name": "lokup"}, "config.environment.name: no environment 'lokup' (did you mean 'lookup'?)"),
        ({"environment.options": ("cost",)}, "config.environment.options: 'cost' must be NAME=VALUE"),
        ({"environment.template": "user:"}, "config.environment.template: it has no {reply}"),
        ({"environment.reply_tokens": 24}, "config.environment.reply_tokens: 24 must be below ppo.max_new_tokens=24"),
    ],
)
def test_what_does_not_go_together_is_said(tmp_path: Path, changes: dict[str, Any], said: str, capsys) -> None:
    config = write_config(tmp_path / "guess.py", {**GUESS, **changes}, streams=STREAMS)
    assert stepjax("ppo", config, tmp_path / "run") == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("streams", "said"),
    [
        ('{"own": stream(signal="mc", estimator="progress")}', "config.ppo.streams.own.signal=mc: "),
        ('{"own": stream(signal="environment", shaping=("delta",))}', "config.ppo.streams.own.shaping: "),
    ],
)
def test_streams_that_do_not_fit_an_environment_are_refused(tmp_path: Path, streams: str, said: str, capsys) -> None:
    config = write_config(tmp_path / "guess.py", GUESS, streams=streams)
    assert stepjax("ppo", config, tmp_path / "run") == 2
    assert said in (err := capsys.readouterr().err) and err.count("\n") == 1


def test_a_class_that_cannot_be_made_is_said_before_any_stage(tmp_path: Path, capsys) -> None:
    config = write_config(tmp_path / "guess.py", GUESS | {"environment.options": ("cots=1",)}, streams=STREAMS)
    assert stepjax("quickstart", config, tmp_path / "run") == 2
    assert "stepjax.tasks.guess:TURNS cannot be made with environment.options (TypeError" in capsys.readouterr().err
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_stream_needs_the_environment_that_it_is_paid_by(tmp_path: Path, capsys) -> None:
    options = {name: value for name, value in GUESS.items() if not name.startswith("environment.")}
    assert stepjax("ppo", write_config(tmp_path / "guess.py", options, streams=STREAMS), tmp_path / "run") == 2
    assert "config.ppo.streams.own.signal=environment: no environment over turns" in capsys.readouterr().err
