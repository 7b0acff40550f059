"""A PPO run with the parts of published rules: states, gates, products, joined rewards; ratios of sequences."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
from runs.tiny_run import OPTIONS, TinyRun, lines, stepjax, write_config

from stepjax.options import parse

STREAMS = """{
        "outcome": stream(signal="outcome", horizon="response", baseline="mean", scale="sample_std", whiten=False),
        "length": stream(signal="length", per="response", most=8, token_cost=0.05, join="outcome"),
        "anchor": stream(signal="verifier", horizon="response", unit="step", hold=True, gamma=0.9, baseline="mean",
                         among="state", when="return", whiten=False),
        "gated": stream(signal="verifier", shaping=("early",), times="outcome", pay="wrong", whiten=False),
    }"""
LOSS = {
    "ppo.loss": "cispo", "ppo.ratio": "sequence", "ppo.reduce": "fixed", "ppo.whiten": True,
    "ppo.train_on": ("informative", "below:0.99"),
}  # fmt: skip


@pytest.mark.slow
def test_a_run_with_all_kinds_of_parts(tiny: TinyRun, tmp_path: Path) -> None:
    config = write_config(tmp_path / "changed.py", {**OPTIONS, "ppo.iterations": 2, **LOSS}, streams=STREAMS)
    workdir = tiny.copy(tmp_path / "run", without=("ppo",))
    (workdir / "config.json").write_text(json.dumps(dataclasses.asdict(parse([f"--config={config}"])[0])))
    assert stepjax("ppo", config, workdir) == 0
    for line in lines(workdir, "ppo"):
        assert 0 <= line["train_on/fraction"] < 1
        assert all(math.isfinite(line[f"advantage_std/{name}"]) for name in ("outcome", "length", "anchor", "gated"))
        assert line["advantage_std/length"] == 0, "what is joined has no credit of its own"
        assert math.isfinite(line["policy/loss"]) and line["policy/ratio_max"] > 0
