"""Two processes of four devices, through the launcher: the figures of one process, whatever happens to them."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from runs.tiny_run import OPTIONS, TinyRun, arrays, environment, lines, stepjax, write_config

from stepjax.distributed import stop as stopping
from stepjax.models import load_pretrained
from stepjax.runs.ppo import PPO

pytestmark = pytest.mark.slow

LOCAL = Path(__file__).parents[2] / "launch" / "local.py"
ROUNDS, TIMEOUT = 6, 10.0
SMALL = OPTIONS | {
    "mesh.data": -1,
    "sft.updates": 40,
    "sft.checkpoint_every": 40,
    "prm.updates": 4,
    "prm.checkpoint_every": 4,
    "ppo.iterations": ROUNDS,
    "ppo.checkpoint_every": 1,
    "ppo.block": 8,
    "distributed.timeout": TIMEOUT,
}
TENSOR = ("--config.mesh.data=1", "--config.mesh.tensor=8")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, compiled_once: Path) -> TinyRun:
    """A run of one process with eight devices, through PPO."""
    os.environ["STEPJAX_QUIET"] = "1"
    folder = tmp_path_factory.mktemp("whole")
    run = TinyRun(write_config(folder / "small.py", SMALL), folder / "run")
    for stage in ("sft", "prm", "ppo"):
        assert stepjax(stage, run.config, run.workdir) == 0
    return run


@pytest.fixture
def launch(whole: TinyRun) -> Iterator[Callable[..., subprocess.Popen]]:
    """Starts PPO in two processes of four devices; none outlives the test."""
    started: list[subprocess.Popen] = []

    def start(workdir: Path, *arguments: str) -> subprocess.Popen:
        code = "import sys; from stepjax.cli import main; sys.exit(main(sys.argv[1:]))"
        command = [sys.executable, "-c", code, "ppo", f"--config={whole.config}", f"--workdir={workdir}", *arguments]
        argv = [sys.executable, str(LOCAL), "--processes", "2", "--devices", "4", "--patience", "40", "--", *command]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(argv, stdout=pipe, stderr=pipe, text=True, env=environment()))
        return started[-1]

    yield start
    for launcher in started:
        if launcher.poll() is None:
            for pid in children(launcher):
                os.kill(pid, signal.SIGKILL)
            launcher.kill()
        launcher.communicate()


def children(launcher: subprocess.Popen) -> list[int]:
    """The processes, in their order."""
    path = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children")
    return sorted(int(pid) for pid in path.read_text().split())


def before_ppo(whole: TinyRun, folder: Path) -> Path:
    """A copy of the work directory as it was before PPO."""
    shutil.copytree(whole.workdir, folder)
    shutil.rmtree(folder / "checkpoints" / "ppo")
    for name in ("metrics.jsonl", "samples.jsonl"):
        kept = [x for x in (folder / name).read_text().splitlines(True) if '"stage": "ppo"' not in x]
        (folder / name).write_text("".join(kept))
    return folder


def until(launcher: subprocess.Popen, workdir: Path, rounds: int) -> None:
    end = time.monotonic() + 240
    while len(lines(workdir, "ppo")) < rounds:
        assert launcher.poll() is None, launcher.communicate()
        assert time.monotonic() < end, "the rounds never came"
        time.sleep(0.02)


def assert_same_figures(ours: Path, theirs: Path, rounds: int = ROUNDS) -> None:
    """Every figure of every round to 1e-5 (of its size, where that is above 1), and the same texts of the samples."""
    found, expected = (lines(folder, "ppo")[:rounds] for folder in (ours, theirs))
    assert [x["step"] for x in found] == list(range(1, rounds + 1)) == [x["step"] for x in expected]
    for a, b in zip(found, expected, strict=True):
        assert a.keys() == b.keys()
        for name, value in b.items():
            assert a[name] == (pytest.approx(value, rel=1e-5, abs=1e-5) if isinstance(value, float) else value), (
                b["step"],
                name,
            )
    texts = [[(x["step"], x["response"]) for x in lines(folder, "ppo", "samples.jsonl")] for folder in (ours, theirs)]
    assert texts[0] == texts[1] and texts[0]


def test_two_processes_refuse_what_was_changed_and_have_the_figures_of_one(
    whole: TinyRun, launch, tmp_path: Path
) -> None:
    """A stage of another version, refused and then accepted: what the accepted run computes is compared."""
    workdir = before_ppo(whole, tmp_path / "run")
    path = workdir / "checkpoints" / "sft" / "40" / "origin" / "origin.json"
    found = json.loads(path.read_text())
    found["parts"]["release"]["stepjax"]["version"] = "0.0.1"
    path.write_text(json.dumps(found))
    launcher = launch(workdir)
    _, error = launcher.communicate(timeout=120)
    assert launcher.returncode == 2, error
    assert re.search(r"^\[0\] stepjax: .*since stage sft was saved: stepjax \(0.0.1 then, ", error, re.M), error
    assert re.search(r"^\[1\] stepjax: process 0 .*ended: .*since stage sft was saved: ", error, re.M), error
    assert "Traceback" not in error
    launcher = launch(workdir, "--accept-changed", "--config.ppo.export_every=3", "--config.ppo.export_keep=1")
    out, error = launcher.communicate(timeout=300)
    assert launcher.returncode == 0, error
    assert len(re.findall("--accept-changed: stage sft goes on", out)) == 1
    assert_same_figures(workdir, whole.workdir, 5)
    assert len(re.findall("report.html", out)) == 1, "one process speaks"
    assert json.loads((workdir / "config.json").read_text())["ppo"]["iterations"] == ROUNDS
    assert [path.name for path in (workdir / "exported").iterdir()] == [str(ROUNDS)], "one process writes and removes"
    exported = load_pretrained(workdir / "exported" / str(ROUNDS)).params["trunk"]["layers"]["query"]
    np.testing.assert_array_equal(exported, arrays(workdir, "ppo")["policy/params/trunk/layers/query"])


def test_ctrl_c_at_the_launcher_saves_once(whole: TinyRun, launch, tmp_path: Path) -> None:
    workdir = before_ppo(whole, tmp_path / "run")
    launcher = launch(workdir, "--config.ppo.iterations=500", "--config.ppo.checkpoint_every=500")
    until(launcher, workdir, 2)
    launcher.send_signal(signal.SIGINT)
    _, error = launcher.communicate(timeout=60)
    done = len(lines(workdir, "ppo"))
    assert launcher.returncode == 130, error
    assert [x.name for x in (workdir / "checkpoints" / "ppo").iterdir()] == [str(done)]
    for process in (0, 1):
        told = rf"^\[{process}\] stepjax: Ctrl-C: PPO round {done} is saved; the same command continues$"
        assert re.search(told, error.replace("process 0: ", "").replace("process 1: ", ""), re.M), error
    assert error.count("the run ends when its step is done") <= 1 and "Traceback" not in error


def test_a_process_without_a_row_of_its_own(whole: TinyRun, launch, tmp_path: Path) -> None:
    """A tensor axis over both processes: every row lies on both of them, and process 0 answers for all."""
    one, two = before_ppo(whole, tmp_path / "one"), before_ppo(whole, tmp_path / "two")
    launcher = launch(two, *TENSOR)
    assert stepjax("ppo", whole.config, one, *TENSOR) == 0
    _, error = launcher.communicate(timeout=300)
    assert launcher.returncode == 0, error
    assert_same_figures(two, one, 5)


def test_a_lost_process_is_named_and_the_run_goes_on_anywhere(
    whole: TinyRun, launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workdir = before_ppo(whole, tmp_path / "run")
    # Two processes; one is killed: the other names it and ends.
    launcher = launch(workdir)
    until(launcher, workdir, 1)
    victim = children(launcher)[1]
    os.kill(victim, signal.SIGKILL)
    struck = time.monotonic()
    _, error = launcher.communicate(timeout=60)
    assert time.monotonic() - struck < 2 * TIMEOUT + 10
    assert launcher.returncode == 128 + 9, error
    assert re.search(rf"\[0\] stepjax: process 1 \(pid {victim} on .*\) is lost: no heartbeat for \d+ s", error)
    # Again two processes, told to stop: both save the same round and go.
    launcher = launch(workdir)
    until(launcher, workdir, 2)
    os.kill(children(launcher)[1], signal.SIGTERM)  # it comes to one of them alone
    struck = time.monotonic()
    _, error = launcher.communicate(timeout=60)
    assert time.monotonic() - struck < 30
    done = len(lines(workdir, "ppo"))
    assert launcher.returncode == 75 and done < ROUNDS, error
    assert f"[1] stepjax: SIGTERM: PPO round {done} is saved; the same command continues" in error
    assert f"[0] stepjax: process 1: SIGTERM: PPO round {done} is saved; the same command continues" in error
    # One process of eight devices, for a round.
    iterate = PPO.iterate

    def one_round(*args, **more):
        stopping.current.request("enough")
        return iterate(*args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(PPO, "iterate", one_round)
        assert stepjax("ppo", whole.config, workdir) == 75
    assert len(lines(workdir, "ppo")) == done + 1
    # One device, to the end.
    assert stepjax("ppo", whole.config, workdir, "--config.mesh.data=1") == 0
    assert_same_figures(workdir, whole.workdir)
