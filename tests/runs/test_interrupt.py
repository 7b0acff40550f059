"""Ctrl-C: the first one saves once and ends, the second one ends at once; no command shows a traceback."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from judges.chat_server import chat_server, honest
from runs.chaos import lines as count
from runs.chaos import wait
from runs.tiny_run import TinyRun, assert_same_run, environment, lines, start, stepjax

from stepjax.data.schema import LabelledSolution, line

ANNOUNCED = (
    "stepjax: Ctrl-C: the run ends when its step is done and saved, after a compilation if need be; again: at once\n"
)

COMPILING = """
import ctypes
import stepjax.runs.ppo as ppo
whole = ppo.PPO.iterate
def iterate(self, state, order, number, *others, **more):
    if number == 3:
        open({mark!r}, "w").close()
        while True:
            ctypes.CDLL(None).usleep(200_000)
    return whole(self, state, order, number, *others, **more)
ppo.PPO.iterate = iterate
"""
"""The third round never comes back from a call, as a long compilation."""


def press(process: subprocess.Popen, moment: Callable[[], bool]) -> None:
    """Sends SIGINT at the moment."""
    end = time.monotonic() + 240
    while not moment():
        assert process.poll() is None and time.monotonic() < end, ("the moment never came", process.communicate())
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)


@pytest.mark.slow
def test_the_first_one_saves_the_round(tiny: TinyRun, tmp_path: Path) -> None:
    workdir = tiny.copy(tmp_path / "run", without=("ppo",))
    # No checkpoint would be due by then.
    process = start("ppo", tiny.config, workdir, "--config.ppo.checkpoint_every=50")
    press(process, lambda: count(workdir, "ppo") >= 3)
    status, error = wait(process, 60)
    done = lines(workdir, "ppo")[-1]["step"]
    assert status == 130
    assert error == f"{ANNOUNCED}stepjax: Ctrl-C: PPO round {done} is saved; the same command continues\n"
    assert [x.name for x in (workdir / "checkpoints" / "ppo").iterdir()] == [str(done)] and 3 <= done < 12


@pytest.mark.slow
def test_the_second_one_ends_a_compilation_at_once(tiny: TinyRun, tmp_path: Path) -> None:
    workdir, mark = tiny.copy(tmp_path / "run", without=("ppo",)), tmp_path / "compiling"
    prelude = COMPILING.format(mark=str(mark))
    process = start("ppo", tiny.config, workdir, "--config.distributed.grace=1", prelude=prelude)
    try:
        press(process, mark.exists)
        time.sleep(3.0)
        assert process.poll() is None, "nobody kills it: the grace of SIGTERM does not count"
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        status, error = wait(process, 20)
    finally:
        process.kill()
    assert status == 130 and time.monotonic() - begun < 5
    told = "stepjax: Ctrl-C again: ended at once; the same command continues from the last checkpoint\n"
    assert error == ANNOUNCED + told
    assert stepjax("ppo", tiny.config, workdir) == 0
    assert_same_run(workdir, tiny.workdir, ["ppo"])


@pytest.mark.slow
def test_supervised_training_is_saved(tiny: TinyRun, tmp_path: Path) -> None:
    workdir = tmp_path / "run"
    process = start("sft", tiny.config, workdir, "--config.sft.checkpoint_every=1000")
    press(process, lambda: count(workdir, "sft") >= 2)
    status, error = wait(process, 60)
    assert status == 130 and " is saved; the same command continues\n" in error and "Traceback" not in error
    assert stepjax("sft", tiny.config, workdir) == 0
    assert_same_run(workdir, tiny.workdir, ["sft"])


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.3, 1.0, 2.0, 3.5, 5.0])
def test_with_nothing_to_save_it_ends_in_one_line(tiny: TinyRun, tmp_path: Path, seconds: float) -> None:
    """While modules are imported, options are read, programs are compiled, responses are sampled."""
    process = start("eval", tiny.config, tiny.copy(tmp_path / "run"), "--config.eval.problems=4000")
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    begun = time.monotonic()
    status, error = wait(process, 30)
    assert time.monotonic() - begun < 10
    assert status in (130, -signal.SIGINT, 1)
    if status != 130:  # Python itself had not begun
        assert seconds < 0.5
        return
    assert error.count("\n") == 1 and error.startswith("stepjax: "), error


def command(*argv: str) -> subprocess.Popen:
    code = "import sys\nfrom stepjax.cli import main\nsys.exit(main(sys.argv[1:]))"
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", code, *argv], stdout=pipe, stderr=pipe, text=True, env=environment())


def test_a_conversion_leaves_nothing_half_written(tmp_path: Path) -> None:
    source, out = tmp_path / "data.jsonl", tmp_path / "out.jsonl"
    row = line(LabelledSolution("1 + 1?", ("2",), id="NAME", ratings=(1,)))
    source.write_text("".join(row.replace("NAME", str(i)) for i in range(300_000)))  # many seconds of work
    process = command("data", "--config.source=records", f"--config.path={source}", f"--config.out={out}")
    press(process, lambda: out.with_name("out.jsonl.partial").exists())
    status, error = wait(process, 30)
    assert status == 130
    assert error == "stepjax: stopped by Ctrl-C; what was saved is whole, and the same command goes on from there\n"
    assert list(tmp_path.iterdir()) == [source]


def test_labels_that_are_written_stay(tmp_path: Path) -> None:
    data, out = tmp_path / "data.jsonl", tmp_path / "labels.jsonl"
    data.write_text("".join(line(LabelledSolution(f"{i}?", ("a", "b"), id=str(i))) for i in range(40)))
    options = ["--config.method=judge", f"--config.data={data}", f"--config.out={out}"]
    judge = {"model": "m", "rubric": "coarse", "concurrency": 2, "timeout": 60.0}

    def written() -> int:
        return out.read_bytes().count(b"\n") if out.exists() else 0

    with chat_server(lambda n, q: {**honest(n, q), "delay": 0.0 if n < 10 else 50.0}) as server:
        judge["url"] = server.url
        process = command("label", *options, *(f"--config.judge.{name}={value}" for name, value in judge.items()))
        press(process, lambda: written() >= 8)
        status, error = wait(process, 20)
    assert status == 130 and error.endswith(
        "stepjax: stopped by Ctrl-C; what was saved is whole, and the same command goes on from there\n"
    )
    assert "Traceback" not in error and 8 <= written() <= 10
