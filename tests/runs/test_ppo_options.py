"""PPO with host-rated streams, shapings, an adapted coefficient and guards: a stop and a new start change no bit."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from runs.tiny_run import OPTIONS, TinyRun, arrays, assert_same_run, lines, stepjax, write_config

from stepjax.options import parse
from stepjax.workdir.metrics import Metrics

CHANGES = {
    "task.register_chain.step_limit": True,
    "ppo.iterations": 4,
    "ppo.kl_target": 1e-4,
    "ppo.kl_stop": 0.5,
    "ppo.ratio_guard": 50.0,
    "ppo.reduce": "step",
    "ppo.critic_warmup": 1,
}
STREAMS = f"""{{
        "process": stream(signal="prm", shaping=("clip:0.5", "delta")),
        "last": stream(signal="orm", horizon="response", weight=0.1, critic=False),
        "form": stream(signal="format", pattern=r"\\S+", weight=0.1, critic=False, shaping=("min_form:0.1",)),
        "own": stream(signal="function", function="{__name__}:brevity", weight=0.1, critic=False),
        "whole": stream(signal="function", function="{__name__}:even", horizon="response", critic=False),
        "band": stream(signal="length", least=4, most=8, weight=0.1, critic=False),
        "kept": stream(signal="limit", horizon="response", weight=0.1, critic=False),
        "drift": stream(signal="kl", kl_kind="k3", horizon="0.5", weight=0.1, critic=False),
    }}"""


def brevity(prompts: list[str], responses: list[str], steps: list[list[str]]) -> list[list[float]]:
    """A reward a step."""
    assert len(prompts) == len(responses) == len(steps) and all("!" in prompt for prompt in prompts)
    return [[-0.1 * len(step) for step in of_one] for of_one in steps]


def even(prompts: list[str], responses: list[str], steps: list[list[str]]) -> list[float]:
    """A reward a response."""
    return [float(len(of_one) % 2 == 0) for of_one in steps]


def nowhere(prompts: list[str], responses: list[str], steps: list[list[str]]) -> list[float]:
    return [0.0] * (len(steps) - 1) + [float("nan")]


def prepared(tiny: TinyRun, folder: Path, streams: str = STREAMS) -> tuple[Path, Path]:
    """A config file, and tiny's work directory before PPO, as if it had been started with these options."""
    folder.mkdir()
    config = write_config(folder / "changed.py", {**OPTIONS, **CHANGES}, streams=streams)
    workdir = tiny.copy(folder / "run", without=("ppo",))
    (workdir / "config.json").write_text(json.dumps(dataclasses.asdict(parse([f"--config={config}"])[0])))
    return config, workdir


@pytest.mark.slow
def test_a_run_with_all_of_it_resumes_with_the_same_bits(tiny: TinyRun, tmp_path: Path, monkeypatch) -> None:
    config, at_once = prepared(tiny, tmp_path / "a")
    assert stepjax("ppo", config, at_once) == 0
    config, in_two = prepared(tiny, tmp_path / "b")
    writing = Metrics.write

    def write(self: Metrics, step: int, values) -> None:
        if step == 3:
            raise KeyboardInterrupt
        writing(self, step, values)

    with monkeypatch.context() as patched:
        patched.setattr(Metrics, "write", write)
        assert stepjax("ppo", config, in_two) == 130
    assert stepjax("ppo", config, in_two) == 0
    assert_same_run(in_two, at_once, ["ppo"])
    assert "kl" in arrays(at_once, "ppo")
    logged = lines(at_once, "ppo")
    coefficient = 0.02
    for line in logged:
        assert line["kl/coefficient"] == pytest.approx(coefficient, rel=1e-5)
        coefficient *= 1 + 0.1 * np.clip(line["kl/reference"] / 1e-4 - 1, -0.2, 0.2)
    assert float(arrays(at_once, "ppo")["kl"]) == pytest.approx(coefficient, rel=1e-5)
    assert logged[1]["kl/reference"] < 1e-6 < logged[3]["kl/reference"], "the first round trains the critic alone"
    assert {name.removeprefix("reward/") for name in logged[0] if name.startswith("reward/")} == {
        "process", "last", "form", "own", "whole", "band", "kept", "drift"
    }  # fmt: skip
    assert 0 <= logged[0]["reward/whole"] <= 1 and logged[0]["reward/own"] < 0


def test_what_a_function_returns_is_checked_in_the_run(tiny: TinyRun, tmp_path: Path, capsys) -> None:
    streams = f'{{"mine": stream(signal="function", function="{__name__}:nowhere")}}'
    config, workdir = prepared(tiny, tmp_path / "a", streams)
    assert stepjax("ppo", config, workdir) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said == (f"stepjax: config.ppo.streams.mine.function: {__name__}:nowhere returned nan for response 15")
