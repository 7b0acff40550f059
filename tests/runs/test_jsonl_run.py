"""Problems of the user's own, by a config alone: a JSONL file in, a measured policy and a report out."""

import json
from pathlib import Path

import pytest
from runs.tiny_run import OPTIONS, lines, stepjax, write_config

OUTCOME = '{"outcome": stream(signal="outcome", horizon="response", critic=False, bad=0.0)}'


def write_problems(path: Path, count: int) -> Path:
    """Sums in two steps, the answer marked in the last; every fifth row has no solution."""
    with path.open("w") as file:
        for i in range(count):
            a, b = i % 20, i // 20
            row = {"question": f"What is {a}+{b}?", "final": a + b}
            if i % 5:
                row["worked"] = f"{a}+{b}={a + b}\n#### {a + b}"
            file.write(json.dumps(row) + "\n")
    return path


def options(train: Path) -> dict:
    return {
        **OPTIONS,
        "stages": ("sft", "ppo"),
        "task.name": "jsonl",
        "task.separator": "\n",
        "task.jsonl.train": str(train),
        "task.jsonl.problem": "question",
        "task.jsonl.answer": "final",
        "task.jsonl.solution": "worked",
        "task.jsonl.held_out": 0.2,
        "tokenizer.vocab": 300,
        "ppo.iterations": 3,
    }


@pytest.mark.slow
def test_jsonl_problems_go_through_quickstart(
    tmp_path: Path, compiled_once: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("STEPJAX_QUIET", "1")
    config = write_config(tmp_path / "mine.py", options(write_problems(tmp_path / "sums.jsonl", 200)), streams=OUTCOME)
    workdir = tmp_path / "run"
    assert stepjax("quickstart", config, workdir) == 0
    assert "Traceback" not in capfd.readouterr().err
    measured = json.loads((workdir / "eval.json").read_text())
    assert measured["rows"].keys() == {"sft", "ppo"} and measured["prm"] == {}
    assert measured["problems"] == 16 and measured["split"] == "test"
    for row in measured["rows"].values():
        assert 0 <= row["accuracy"] <= 1 and "good" not in row and "trace_error" not in row, "nothing rates steps here"
    losses = [line["valid/loss"] for line in lines(workdir, "sft") if "valid/loss" in line]
    assert losses[-1] < 0.5 * losses[0]
    ppo = lines(workdir, "ppo")
    assert [line["step"] for line in ppo] == [1, 2, 3]
    assert all(line["reward/outcome"] == pytest.approx(line["true/accuracy"]) for line in ppo), "no response is cut off"
    samples = lines(workdir, "ppo", "samples.jsonl")
    assert samples and all(row["prompt"].startswith("What is ") for row in samples)
    assert {step["rating"] for row in samples for step in row["steps"]} == {None}
    assert any("#### " in row["response"] for row in samples)
    assert (workdir / "report.html").read_text().rstrip().endswith("</html>")


def test_what_a_task_without_a_verifier_cannot_do_is_said_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = write_problems(tmp_path / "sums.jsonl", 50)
    for stages, streams, told in (
        (("sft", "prm", "ppo"), OUTCOME, "stage prm needs a verifier of single steps, which task jsonl does not have"),
        (("sft", "ppo"), '{"checks": stream(signal="verifier")}', "config.ppo.streams.checks needs a verifier"),
        (
            ("sft", "ppo"),
            '{"process": stream(signal="prm")}',
            "config.ppo.streams.process: stage prm, whose scores it reads, needs a verifier of single steps, which "
            "task jsonl does not have; reward the graded answer with signal='outcome', or name labelled steps",
        ),
    ):
        config = write_config(tmp_path / "mine.py", {**options(train), "stages": stages}, streams=streams)
        assert stepjax("quickstart", config, tmp_path / "run") == 2
        error = capsys.readouterr().err
        assert told in error and error.count("\n") == 1
        assert not (tmp_path / "run" / "config.json").exists(), "the folder is free for the mended config"
