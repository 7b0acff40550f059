"""A rollout that pauses, in two processes: the tokens of one device, whatever is added and continued between turns."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from distributed import pausable_worker
from distributed.test_runs import LOCAL
from rollout.test_engine import FIELDS, in_lockstep
from runs.tiny_run import environment

pytestmark = pytest.mark.slow


def test_two_processes_draw_the_tokens_of_one(tmp_path: Path) -> None:
    command = [sys.executable, pausable_worker.__file__, str(tmp_path)]
    argv = [sys.executable, str(LOCAL), "--processes", "2", "--devices", "4", "--patience", "40", "--", *command]
    done = subprocess.run(argv, capture_output=True, text=True, env=environment(), timeout=900, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    rows = {field: np.asarray(getattr(in_lockstep(), field)) for field in (*FIELDS, "logprobs")}
    stepwise = pausable_worker.branches(mesh=(1, 1, 1), slots=4)
    assert len(rows["tokens"]) > 20 and (stepwise["pieces"] > 1).any()
    expected = {"added": rows, "drawn again": rows, "branches": stepwise}
    assert expected.keys() == pausable_worker.TASKS.keys()
    for name, wanted in expected.items():
        for process in range(2):
            with np.load(tmp_path / f"{name}-{process}.npz") as found:
                for field, x in wanted.items():
                    compare = np.testing.assert_allclose if field == "logprobs" else np.testing.assert_array_equal
                    compare(found[field], x, **({"atol": 1e-5} if field == "logprobs" else {}), err_msg=field)
                assert name != "drawn again" or found["restarted"] > 0, "no blocks ran out"
