"""PPO with a calculator in the loop, from a folder of GSM8K's form to its report."""

import json
import re
from pathlib import Path

import pytest
from runs.tiny_run import OPTIONS, lines, stepjax, write_config

from stepjax.tasks import check_calculations

STREAMS = """{
        "calculation": stream(signal="verifier", horizon="step"),
        "outcome": stream(signal="outcome", horizon="response", lam=1.0, weight=0.5, bad=0.0),
    }"""


def write_gsm8k(folder: Path) -> Path:
    """Sums of two numbers, each with its note, as GSM8K writes them."""
    folder.mkdir()
    for name, first in (("train.jsonl", 0), ("test.jsonl", 400)):
        with (folder / name).open("w") as file:
            for i in range(first, first + (400 if first == 0 else 40)):
                a, b = i % 20, (i // 20) % 20
                answer = f"{a}+{b} = <<{a}+{b}={a + b}>>{a + b}\n#### {a + b}"
                file.write(json.dumps({"question": f"What is {a}+{b}?", "answer": answer}) + "\n")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("environment", ["calculator", ""])
def test_the_calculator_makes_notes_hold(
    tmp_path: Path, compiled_once: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture, environment: str
) -> None:
    monkeypatch.setenv("STEPJAX_QUIET", "1")
    options = {
        **OPTIONS,
        "stages": ("sft", "ppo"),
        "task.name": "gsm8k",
        "task.gsm8k": str(write_gsm8k(tmp_path / "gsm8k")),
        "tokenizer.vocab": 320,
        "sft.row_tokens": 64,
        "sft.updates": 60,
        "ppo.max_new_tokens": 40,
        "ppo.iterations": 2,
        "ppo.samples_every": 1,
        "ppo.log_samples": 16,
        "ppo.environment": environment,
    }
    workdir = tmp_path / "run"
    assert stepjax("quickstart", write_config(tmp_path / "sums.py", options, streams=STREAMS), workdir) == 0
    assert "Traceback" not in capfd.readouterr().err
    notes = [
        note
        for row in lines(workdir, "ppo", "samples.jsonl")
        for note in re.findall(r"<<\d+\+\d+=[^<>]*>>", row["response"])
    ]
    assert len(notes) > 8
    held = [check_calculations(note) > 0 for note in notes]
    assert all(held) if environment else not all(held)
    assert [line["mismatch/max"] < 1e-3 for line in lines(workdir, "ppo")] == [True, True]
