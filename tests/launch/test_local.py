"""launch/local.py: processes of one run here, their places, their output, their end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

LOCAL = Path(__file__).parents[2] / "launch" / "local.py"


def local(*arguments: str, **more) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(LOCAL), *arguments], capture_output=True, text=True, timeout=60, check=False, **more
    )


def python(code: str) -> tuple[str, str, str, str]:
    return "--", sys.executable, "-c", code


def test_every_process_learns_its_place_and_speaks_with_its_number():
    code = (
        "import os; e = os.environ; "
        "print(e['STEPJAX_PROCESS'], e['STEPJAX_PROCESSES'], e['JAX_PLATFORMS'], e['XLA_FLAGS'].split()[-1])"
    )
    done = local("--processes", "3", "--devices", "2", *python(code))
    assert done.returncode == 0, done.stderr
    flag = "--xla_force_host_platform_device_count=2"
    assert sorted(done.stdout.splitlines()) == [f"[{p}] {p} 3 cpu {flag}" for p in range(3)]


def test_the_first_failure_is_the_exit_status_and_ends_the_rest():
    code = "import os, sys, time\nif os.environ['STEPJAX_PROCESS'] == '1': sys.exit(7)\ntime.sleep(60)"
    start = time.monotonic()
    done = local("--processes", "3", "--patience", "0.5", *python(code))
    assert done.returncode == 7 and time.monotonic() - start < 20
    assert "process 1 ended first, with status 7" in done.stderr


def test_a_killed_process_is_named_with_its_signal():
    code = "import os, signal\nif os.environ['STEPJAX_PROCESS'] == '0': os.kill(os.getpid(), signal.SIGKILL)"
    done = local("--processes", "2", "--patience", "0.5", *python(code))
    assert done.returncode == 128 + 9
    assert "process 0 was killed by SIGKILL" in done.stderr


def test_sigterm_goes_to_every_process():
    code = (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('told'), sys.exit(75)))\n"
        "print('ready', flush=True)\ntime.sleep(60)"
    )
    launcher = subprocess.Popen(
        [sys.executable, str(LOCAL), "--processes", "2", *python(code)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert launcher.stdout is not None
        assert {launcher.stdout.readline(), launcher.stdout.readline()} == {"[0] ready\n", "[1] ready\n"}
        launcher.send_signal(signal.SIGTERM)
        rest, _ = launcher.communicate(timeout=20)
    finally:
        launcher.kill()
        launcher.wait()
    assert sorted(rest.splitlines()) == ["[0] told", "[1] told"] and launcher.returncode == 75


def test_a_dry_run_prints_the_commands():
    done = local("--processes", "2", "--devices", "4", "--port", "1234", "--dry-run", "--", "stepjax", "ppo", "--a=b c")
    assert done.returncode == 0
    first, second = done.stdout.splitlines()
    assert first.endswith("stepjax ppo '--a=b c'") and "STEPJAX_PROCESS=0" in first
    assert "STEPJAX_PROCESS=1" in second and "STEPJAX_COORDINATOR=127.0.0.1:1234" in second


@pytest.mark.parametrize("arguments", [(), ("--processes", "0", "--", "true"), ("--devices", "x", "--", "true")])
def test_mistakes_are_status_2(arguments):
    done = local(*arguments)
    assert done.returncode == 2 and "error:" in done.stderr


def test_flags_of_the_user_stay(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_a=1 --xla_force_host_platform_device_count=3")
    done = local("--processes", "1", "--devices", "5", "--dry-run", "--", "true", env=dict(os.environ))
    assert "XLA_FLAGS='--xla_a=1 --xla_force_host_platform_device_count=5'" in done.stdout
