"""docs/tour.sh, a day with stepjax: every command of it works after those before."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from runs.tiny_run import environment

TOUR = Path(__file__).parents[2] / "docs" / "tour.sh"
SMALL = (
    *("model.layers=2", "model.width=32", "model.heads=2", "model.kv_heads=2", "model.head_dim=16", "model.mlp=64"),
    *("model.unroll=1", "ppo.halvings=0"),  # the less there is to compile
    *("sft.updates=100", "prm.updates=20", "prm.samples=64", "prm.valid_samples=32", "prm.demonstrations=64"),
    *("ppo.iterations=3", "ppo.checkpoint_every=1", "ppo.prompts=8", "eval.problems=32", "eval.rows=32"),
)


@pytest.mark.slow
def test_the_tour(tmp_path, compiled_once):
    # `stepjax` of this environment, whatever else is installed.
    command = tmp_path / "bin" / "stepjax"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m stepjax.cli "$@"\n')
    command.chmod(0o755)
    path = f"{command.parent}{os.pathsep}{os.environ['PATH']}"
    folder = tmp_path / "tour"
    argv, where = ["bash", str(TOUR), str(folder), *(f"--config.{x}" for x in SMALL)], {**environment(), "PATH": path}
    done = subprocess.run(argv, capture_output=True, text=True, env=where, timeout=1100, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for name in ("step/report.html", "compare.html", "policy/model.safetensors", "exported/samples", "labels/prm.json"):
        assert (folder / name).exists(), name
