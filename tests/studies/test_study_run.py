"""Studies as processes: what is started with which command, failures, what a later start does, the page."""

import json
import os
import signal
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from stepjax.cli import main
from stepjax.errors import Stopped
from stepjax.options import help as help_text
from stepjax.runs import side_by_side
from stepjax.studies import registry, study_jobs
from stepjax.studies.study import Arm, Measure, Plan, Study
from stepjax.studies.study_run import run_study

CHILD = """
import json, os, pathlib, signal, sys, time

given = dict(a.lstrip("-").partition("=")[::2] for a in sys.argv[1:])
workdir, seed = pathlib.Path(given["workdir"]), int(given["config.seed"])
workdir.mkdir(exist_ok=True)
base = given.get("config.base")
assert base is None or (pathlib.Path(base) / "done").exists(), "the base comes first"
if (workdir.parent / "broken").exists() and "rows" in workdir.name and seed == 1:
    print("stepjax: no such thing", file=sys.stderr)
    sys.exit(2)
if (workdir.parent / "slow").exists():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    (workdir / "ready").touch()
    time.sleep(60)
assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(workdir.parent / "programs")
(workdir / "done").write_text(str(seed + (10 if "right" in workdir.name else 0)))
"""


def read(workdir):
    return {"worth": float((workdir / "done").read_text())}


def plan(quick):
    arms = [Arm("rows", options=("--config.ppo.epochs=2",), base="base"), Arm("all right", options=())]
    return Plan(arms, {"base": ('--config.stages=("sft",)',)}, read=read)


STUDY = Study(
    "fake", "A fake study", "Arms differ.", {"worth": Measure("worth")}, plan, compared=[("all right", "rows")]
)


@pytest.fixture
def children(monkeypatch, tmp_path):
    """In the place of `stepjax quickstart`, a process that leaves a figure; the names of those that were started."""
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    script = tmp_path / "child.py"
    script.write_text(textwrap.dedent(CHILD))
    started: list[str] = []
    popen = side_by_side.subprocess.Popen

    def start(argv, **more):
        if "stepjax.cli" not in argv:
            return popen(argv, **more)  # git, for the versions
        command = argv[argv.index("stepjax.cli") + 1 :]
        assert command[0] == "quickstart"
        started.append(next(a for a in command if a.startswith("--workdir=")).rpartition("/")[2])
        return popen([sys.executable, "-S", str(script), *command[1:]], **more)

    monkeypatch.setattr(side_by_side.subprocess, "Popen", start)
    monkeypatch.setattr(side_by_side, "PERIOD", 0.005)
    monkeypatch.setattr(study_jobs, "finished", lambda workdir, *_: (workdir / "done").exists())
    return started


def test_programs_are_kept_where_the_user_keeps_those_of_all_runs(monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/elsewhere")
    assert study_jobs.shared_programs(tmp_path)["JAX_COMPILATION_CACHE_DIR"] == "/elsewhere"


def test_arms_are_runs_and_bases_come_first(children, tmp_path, capsys):
    folder = tmp_path / "study"
    found = run_study(STUDY, folder, [0, 1], 2, False)
    assert {arm.row: by_seed for arm, by_seed in found.items()} == {
        "rows": {0: {"worth": 0.0}, 1: {"worth": 1.0}},
        "all right": {0: {"worth": 10.0}, 1: {"worth": 11.0}},
    }
    assert sorted(children) == ["all_right-s0", "all_right-s1", "base-s0", "base-s1", "rows-s0", "rows-s1"]
    assert "all right − rows" in capsys.readouterr().out
    facts = json.loads((folder / "study.json").read_text())
    assert facts["seeds"] == [0, 1] and facts["versions"]["jax"] and not facts["quick"]
    assert facts["command"] == f"stepjax study fake --seeds=0,1 --jobs=2 --workdir={folder}"
    commands = {run["name"]: run["command"] for run in facts["runs"]}
    assert commands["rows, seed 1"] == (
        f"stepjax quickstart --config.ppo.epochs=2 --config.base={folder}/base-s1 --config.seed=1 "
        f"--workdir={folder}/rows-s1"
    )
    page = (folder / "study.html").read_text()
    assert "Arms differ." in page and all(command in page for command in commands.values() if '"' not in command)
    assert "10.00 [10.00, 10.00]" in page, "the difference"
    run_study(STUDY, folder, [0, 1, 2], 1, False)
    assert sorted(children[6:]) == ["all_right-s2", "base-s2", "rows-s2"], "what is done is not done again"


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("name", ["simple_runs", "correction_runs"])
def test_every_run_of_a_study_has_options_that_are_read(name, quick, tmp_path):
    found = registry.load(name)
    plan = found.plan(quick)
    units = study_jobs.units_of(found, plan, tmp_path, [0], quick)
    assert len({unit.workdir for unit in units}) == len(units) == len([*plan.bases, *plan.arms])
    made = {unit.workdir for unit in units}
    bases = [word.partition("=")[2] for unit in units for word in unit.job.argv if word.startswith("--config.base=")]
    assert all(Path(base) in made for base in bases) and bases


def test_a_shared_base_is_trained_once_for_all_seeds(children, tmp_path):
    def shared(quick):
        return Plan([Arm("rows", base="model")], {"model": ("--config.base={policy}",)}, {"policy": ()}, read=read)

    study = Study("fake", "A fake study", "Arms differ.", {"worth": Measure("worth")}, shared)
    found = run_study(study, tmp_path / "study", [1, 2], 2, False)
    assert [sorted(by_seed) for by_seed in found.values()] == [[1, 2]]
    assert sorted(children) == ["model-s1", "model-s2", "policy-s0", "rows-s1", "rows-s2"]
    facts = json.loads((tmp_path / "study" / "study.json").read_text())
    commands = {run["name"]: run["command"] for run in facts["runs"]}
    assert f"--config.base={tmp_path}/study/policy-s0 " in commands["model, seed 2"]


def test_a_failed_run_is_named_and_the_others_go_on(children, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(registry.STUDIES, "fake", __name__)
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "config.json").write_text('{"study": "fake", "quick": false}')
    (folder / "broken").touch()
    assert main(["study", "fake", "--seeds=0:2", f"--workdir={folder}"]) == 2
    captured = capsys.readouterr()
    assert (
        "1 of 6 runs failed; the first: rows, seed 1 (no such thing" in captured.err and "rows-s1.log" in captured.err
    )
    states = {run["name"]: run["state"] for run in json.loads((folder / "study.json").read_text())["runs"]}
    assert states.pop("rows, seed 1") == "failed" and set(states.values()) == {"done"}
    assert "failed with status 2: no such thing" in (folder / "study.html").read_text()
    (folder / "broken").unlink()
    del children[:]
    assert main(["study", "fake", "--seeds=0:2", f"--workdir={folder}"]) == 0 and children == ["rows-s1"]
    assert main(["study", "fake", "--seeds=0:2", "--quick", f"--workdir={folder}"]) == 2
    assert "use another --workdir" in capsys.readouterr().err


def test_a_signal_reaches_the_runs_and_no_other_is_started(children, tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "config.json").write_text('{"study": "fake", "quick": false}')
    (folder / "slow").touch()

    def stop() -> None:
        while not (folder / "base-s0" / "ready").exists() or not (folder / "all_right-s0" / "ready").exists():
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop).start()
    with pytest.raises(Stopped):
        run_study(STUDY, folder, [0, 1], 2, False)
    assert sorted(children) == ["all_right-s0", "base-s0"] and not (folder / "study.json").exists()


def test_the_help_names_every_study():
    assert set(registry.STUDIES) <= set(help_text.OWN["study"][0][1].replace(",", "").split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["stall", "--jobs=0"], "--jobs=0: name how many"), (["credit", "--jobs=2"], "runs in one process")],
)
def test_mistakes_are_one_line(arguments, said, capsys):
    assert main(["study", *arguments]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
