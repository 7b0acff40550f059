"""All properties for five minutes, in a process of their own.

Bounds count the processor time of a whole process: threads that other tests left behind would use it up.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif("STEPJAX_FUZZ_SECONDS" in os.environ, reason="each property runs by itself")
def test_all_properties_for_five_minutes() -> None:
    command = ["-m", "pytest", "-n0", "-m", "slow", "--tb=short", "-p", "no:cacheprovider"]
    files = [str(path) for path in sorted(Path(__file__).parent.glob("test_*.py")) if path != Path(__file__)]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    env["STEPJAX_FUZZ_SECONDS"] = "300"
    done = subprocess.run([sys.executable, *command, *files], env=env, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
