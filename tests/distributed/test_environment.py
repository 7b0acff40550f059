"""Environments over turns in two processes: each answers its own rows, and the tokens are those of one process."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from distributed.test_runs import LOCAL, assert_same_figures
from runs.test_environment_run import GUESS, STREAMS
from runs.tiny_run import environment, lines, stepjax, write_config

pytestmark = pytest.mark.slow


def test_two_processes_have_the_tokens_and_the_credit_of_one(
    tmp_path: Path, compiled_once: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPJAX_QUIET", "1")
    options = GUESS | {"mesh.data": -1, "ppo.iterations": 4, "ppo.slots": 8}
    config, one, two = write_config(tmp_path / "guess.py", options, streams=STREAMS), tmp_path / "one", tmp_path / "two"
    assert stepjax("sft", config, one) == 0
    shutil.copytree(one, two)
    assert stepjax("ppo", config, one) == 0
    code = "import sys; from stepjax.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "ppo", f"--config={config}", f"--workdir={two}"]
    argv = [sys.executable, str(LOCAL), "--processes", "2", "--devices", "4", "--patience", "40", "--", *command]
    done = subprocess.run(argv, capture_output=True, text=True, env=environment(), timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert_same_figures(two, one, 4)
    rows = [[row["turns"] for row in lines(folder, "ppo", "samples.jsonl")] for folder in (one, two)]
    assert rows[0] == rows[1] and any(rows[0])
