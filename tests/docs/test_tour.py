"""docs/tour.sh, a day with stepjax: every command of it works after those before."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from runs.tiny_run import environment

TOUR = Path(__file__).parents[2] / "docs" / "tour.sh"


@pytest.mark.slow
def test_the_tour(tmp_path):
    # `stepjax` of this environment, whatever else is installed.
    command = tmp_path / "bin" / "stepjax"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m stepjax.cli "$@"\n')
    command.chmod(0o755)
    path = f"{command.parent}{os.pathsep}{os.environ['PATH']}"
    folder = tmp_path / "tour"
    argv, where = ["bash", str(TOUR), str(folder)], {**environment(), "PATH": path, "XLA_FLAGS": ""}
    done = subprocess.run(argv, capture_output=True, text=True, env=where, timeout=1100, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for name in ("step/report.html", "compare.html", "policy/model.safetensors", "exported/samples", "labels/prm.json"):
        assert (folder / name).exists(), name
