"""A run a seed: which processes are started, and what is said of each."""

import dataclasses
import json
import os
import signal
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from stepjax import cli
from stepjax.errors import Stopped, UserError
from stepjax.options import parse
from stepjax.runs import side_by_side
from stepjax.seeds import Seeds, run_seeds, take_seeds

CHILD = """
import json, os, pathlib, signal, sys, time

workdir = pathlib.Path([a for a in sys.argv if a.startswith("--workdir=")][-1].partition("=")[2])
seed = next(a for a in sys.argv if a.startswith("--config.seed=")).partition("=")[2]
workdir.mkdir(exist_ok=True)
(workdir / "argv").write_text(json.dumps(sys.argv[1:]))
if seed == "9":
    print("stepjax: no such thing", file=sys.stderr)
    sys.exit(2)
if seed == "8":
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
    (workdir / "ready").touch()
    time.sleep(60)
rows = {"sft": {"accuracy": 0.25}, "ppo": {"accuracy": 0.5 + int(seed) / 100}}
(workdir / "eval.json").write_text(json.dumps({"rows": rows}))
"""


@pytest.fixture
def child(monkeypatch, tmp_path):
    """In the place of `stepjax`, a process that writes what it was asked and an evaluation."""
    script = tmp_path / "child.py"
    script.write_text(textwrap.dedent(CHILD))
    started: list[list[str]] = []
    popen = side_by_side.subprocess.Popen

    def start(argv, **more):
        first = argv.index("-m")
        assert argv[first - 1 : first + 2] == [sys.executable, "-m", "stepjax.cli"]
        started.append(argv[first + 2 :])
        return popen([sys.executable, str(script), *argv[first + 2 :]], **more)

    monkeypatch.setattr(side_by_side.subprocess, "Popen", start)
    monkeypatch.setattr(side_by_side, "PERIOD", 0.01)
    return started


def test_the_list_of_seeds():
    assert take_seeds(["--config.epochs=1"]) == (None, ["--config.epochs=1"])
    assert take_seeds(["--seeds=0,12", "--workdir=a"]) == (Seeds((0, 12)), ["--workdir=a"])
    assert take_seeds(["--seeds=2:5"]) == (Seeds((2, 3, 4)), [])
    assert take_seeds(["--jobs=3", "--seeds=4"]) == (Seeds((4,), 3), [])


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["--seeds"], "--seeds: name different whole numbers"),
        (["--seeds=0,x"], "--seeds=0,x: name different whole numbers"),
        (["--seeds=1,01"], "name different whole numbers"),
        (["--seeds=3:3"], "name different whole numbers"),
        (["--seeds=0:999999999"], "name different whole numbers"),
        (["--seeds=0", "--jobs=0"], "--jobs=0: name how many"),
        (["--jobs=2"], "--jobs=2: it needs --seeds"),
        (["--seeds=0", "--config.seed=1"], "leave --config.seed out"),
    ],
)
def test_mistakes_are_one_line(argv, why):
    with pytest.raises(UserError) as error:
        take_seeds(argv)
    assert why in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_run_a_seed_and_a_line_each(child, tmp_path, capsys, jobs):
    argv = [f"--workdir={tmp_path}/run", "--config.base=base{seed}", "--accept-changed"]
    assert cli.main(["ppo", *argv, "--config.epochs=1", "--seeds=0,3", f"--jobs={jobs}"]) == 0
    told = capsys.readouterr().out
    for seed in (0, 3):
        workdir = f"{tmp_path}/run-s{seed}"
        expected = ["ppo", argv[0], f"--config.base=base{seed}", "--accept-changed", "--config.epochs=1"]
        assert json.loads(Path(workdir, "argv").read_text()) == [
            *expected,
            f"--config.seed={seed}",
            f"--workdir={workdir}",
        ]
        assert f"seed {seed}: right answers 25.0 % → {50 + seed}.0 %, 0:0" in told and f"({workdir})" in told
        assert Path(f"{workdir}.log").exists() == (jobs > 1)
    assert len(child) == 2


def test_a_mistake_ends_the_command_before_anything_runs(child, tmp_path, capsys):
    assert cli.main(["ppo", "--seeds=0,1", "--config.epochz=2", f"--workdir={tmp_path}/run"]) == 2
    assert "did you mean '--config.epochs'" in capsys.readouterr().err and not child


def test_a_run_that_fails_is_named_and_the_others_go_on(child, tmp_path, capsys):
    assert cli.main(["quickstart", "--seeds=9,1", "--jobs=2", f"--workdir={tmp_path}/run"]) == 2
    captured = capsys.readouterr()
    assert "seed 9: ended with status 2" in captured.out and "seed 1: right answers" in captured.out
    assert "1 of 2 runs failed, seed 9 with status 2 (no such thing)" in captured.err


def test_a_finished_run_is_not_started_again(child, tmp_path, capsys):
    workdir = tmp_path / "run-s1"
    workdir.mkdir()
    options = dataclasses.asdict(parse(["--config.seed=1"]).config)
    (workdir / "config.json").write_text(json.dumps(options))
    (workdir / "eval.json").write_text('{"rows": {"sft": {"accuracy": 0.5}}}')
    for name in ("metrics.jsonl", "report.html"):
        (workdir / name).touch()
    again = ["quickstart", "--seeds=1", f"--workdir={tmp_path}/run"]
    assert cli.main(again) == 0 and not child
    assert "seed 1: finished already: right answers 50.0 %" in capsys.readouterr().out
    assert cli.main([*again, "--config.eval.problems=3"]) == 0 and len(child) == 1, "with another option it is"
    os.utime(workdir / "report.html", (1, 1))
    assert cli.main(again) == 0 and len(child) == 2, "the report is of an earlier state"


def test_an_interrupt_reaches_every_run(child, tmp_path, capsys):
    def interrupt() -> None:
        while not (tmp_path / "run-s8" / "ready").exists():
            pass
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(Stopped) as stopped:
        run_seeds("ppo", Seeds((8, 2)), [f"--workdir={tmp_path}/run"], tmp_path)
    assert stopped.value.interrupted and len(child) == 1, "no other run is started"
    assert "seed 8: ended with status 130" in capsys.readouterr().out
