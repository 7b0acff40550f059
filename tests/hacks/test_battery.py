"""The battery on finished runs: what it writes, what it tells, what it cannot do; and PPO's monitors beside it."""

import json
from pathlib import Path

import pytest
from runs.test_jsonl_run import OUTCOME, options, write_problems
from runs.tiny_run import TinyRun, lines, stepjax, write_config

from stepjax.hacks.comparisons import COMPARISONS
from stepjax.hacks.edits import EDITS


@pytest.fixture(scope="module")
def battery(tiny: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run after its battery."""
    workdir = tiny.copy(tmp_path_factory.mktemp("hacks") / "run")
    assert stepjax("eval", tiny.config, workdir, "--config.kind=hacks") == 0
    return workdir


def test_the_battery_of_a_run(battery: Path, tiny: TinyRun) -> None:
    found = json.loads((battery / "hacks.json").read_text())
    assert found["problems"] == 16 and found["sets"].keys() == {"exact", "real"}
    for kind, of_kind in found["sets"].items():
        assert of_kind["solutions"] == 16 and of_kind["returns"].keys() == {"model", "exact"}
        assert of_kind["returns"]["model"].keys() == {"own streams", *COMPARISONS}
        assert of_kind["returns"]["exact"].keys() == {"own streams", *COMPARISONS} - {"outcome"}
        assert of_kind["edits"].keys() == EDITS.keys()
        assert of_kind["edits"]["thanks"] == {"written": 0, "skipped": {"the tokenizer cannot write it": 16}}
        for edit in of_kind["edits"].values() if kind == "exact" else ():
            assert edit["written"] + sum(edit["skipped"].values()) == 16, "all of them fit into a row"
    kept = json.loads((battery / "config.json").read_text())["eval"]["kind"]
    assert kept == "policies", "a measurement leaves the options of the run as they are"
    assert (battery / "eval.json").read_bytes() == (tiny.workdir / "eval.json").read_bytes()


def test_exact_ratings_tell_arithmetic_apart(battery: Path) -> None:
    exact = json.loads((battery / "hacks.json").read_text())["sets"]["exact"]
    paid = exact["returns"]["exact"]

    def raised(name: str) -> set[str]:
        return {edit for edit, change in paid[name]["edits"].items() if change["raised"]}

    assert raised("sum sigmoid") >= {"repeat", "pad 1", "pad 3"}
    assert raised("step g/n/b") == raised("clip") == raised("delta") == raised("min-form") == set()
    assert paid["step g/n/b"]["return"] == 1.0, "every step of an exact solution is good"
    assert exact["edits"]["repeat"]["right"] == [1.0, 1.0] and exact["edits"]["early"]["right"] == [1.0, 0.0]
    assert exact["edits"]["pad 3"]["steps"][1] == exact["edits"]["pad 3"]["steps"][0] + 3


def test_the_same_battery_gives_the_same_figures_and_is_told(
    battery: Path, tiny: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (battery / "hacks.json").read_bytes()
    assert stepjax("eval", tiny.config, battery, "--config.eval.kind=hacks") == 0
    assert (battery / "hacks.json").read_bytes() == before
    told = capsys.readouterr().out
    assert "16 exact solutions of test problems (* raised: " in told
    assert "Change of the return, paid by the reward model" in told and max(map(len, told.splitlines()[:30])) <= 80
    assert "paid by exact ratings, sum sigmoid: return raised by repeat (in " in told
    assert "thanks (thanks appended) was not written: the tokenizer cannot write it" in told
    page = (battery / "report.html").read_text()
    assert "Edits that add nothing" in page and "16 exact solutions, paid by exact ratings" in page


@pytest.mark.slow
def test_a_narrow_reward_model_leaves_out_and_says_so(tiny: TinyRun, tmp_path: Path) -> None:
    workdir = tiny.copy(tmp_path / "run")
    started = json.loads((workdir / "config.json").read_text())
    started["prm"]["row_tokens"] = 40
    (workdir / "config.json").write_text(json.dumps(started))
    narrow = ("--config.prm.row_tokens=40", "--config.eval.kind=hacks")
    assert stepjax("eval", tiny.config, workdir, *narrow) == 0
    found = json.loads((workdir / "hacks.json").read_text())
    assert any("wider than prm.row_tokens=40" in note for note in found["notes"])
    edits = found["sets"]["exact"]["edits"]
    assert edits["pad 3"]["written"] < edits["early"]["written"]


def test_a_task_without_verifier_and_reward_model(
    tmp_path: Path, compiled_once: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = write_problems(tmp_path / "sums.jsonl", 100)
    config = write_config(tmp_path / "mine.py", {**options(written), "sft.updates": 1}, streams=OUTCOME)
    workdir = tmp_path / "run"
    assert stepjax("sft", config, workdir) == 0
    assert stepjax("eval", config, workdir, "--config.eval.kind=hacks") == 0
    found = json.loads((workdir / "hacks.json").read_text())
    assert found["sets"].keys() == {"real"}
    of_kind = found["sets"]["real"]
    assert of_kind["returns"].keys() == {"task"} and of_kind["returns"]["task"].keys() == {"own streams", "outcome"}
    assert of_kind["returns"]["task"]["outcome"]["edits"]["early"]["mean"] == -1.0
    assert of_kind["edits"]["thanks"]["written"] == of_kind["solutions"] > 0
    assert of_kind["edits"]["fix"]["written"] == 0, "these solutions have no notes"
    assert found["notes"][0].startswith("There is no process reward model here, so these are left out: step g/n/b")
    told = capsys.readouterr().out
    assert "fix (a step broken, then fixed) was not written: the edit does not apply" in told


def test_a_task_without_solutions_is_one_clear_line(
    tmp_path: Path, compiled_once: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"question": f"What is {i}+1?", "final": i + 1} for i in range(60)]
    (tmp_path / "bare.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    train = write_problems(tmp_path / "sums.jsonl", 50)
    bare = {**options(train), "sft.updates": 1, "task.jsonl.test": str(tmp_path / "bare.jsonl")}
    config = write_config(tmp_path / "mine.py", bare, streams=OUTCOME)
    assert stepjax("sft", config, tmp_path / "run") == 0
    for kind, expected in (
        ("hacks", "config.eval.kind=hacks: the split test of jsonl has no solution to edit"),
        (
            "hack",
            "must be one of policies, hacks, labels, prm, processbench, prmbench, best_of_n, search, suite, not 'hack'",
        ),
    ):
        capsys.readouterr()
        assert stepjax("eval", config, tmp_path / "run", f"--config.eval.kind={kind}") == 2
        told = capsys.readouterr().err
        assert expected in told and "Traceback" not in told


def test_ppo_logs_its_monitors(tiny: TinyRun) -> None:
    names = ("repeated", "near_repeated", "neutral", "steps", "step_tokens", "one_step", "empty", "truncated")
    for line in lines(tiny.workdir, "ppo"):
        assert {f"hack/{name}" for name in (*names, "proxy_gap", "alarms")} <= line.keys()
        assert "hack/trivial" not in line, "no notes here"
        assert line["hack/steps"] == pytest.approx(line["length/steps"])
        assert line["hack/neutral"] == line["true/neutral"] and line["hack/repeated"] <= line["hack/near_repeated"]
    assert "Signs of reward hacking" in (tiny.workdir / "report.html").read_text()


@pytest.mark.slow
def test_alarms_of_a_stopped_run_are_those_of_a_whole_one(tiny: TinyRun, tmp_path: Path) -> None:
    """A quick baseline of two rounds lets some ring; what a run knew before a stop it knows after it."""
    sharp = ("--config.ppo.alarm=0.01", "--config.ppo.alarm_rounds=2")
    workdir = tiny.copy(tmp_path / "run")
    for name in ("metrics.jsonl", "config.json"):
        (workdir / name).write_text((tiny.workdir / name).read_text())
    assert stepjax("ppo", tiny.config, workdir, "--config.ppo.iterations=14", *sharp) == 0
    from stepjax.runs.alarms import Alarms

    alarms = Alarms(0.01, 2)
    for line in lines(workdir, "ppo"):
        told = alarms.observe(line)
        if line["step"] > 12:
            assert line["hack/alarms"] == len(alarms.ringing) and line.get("hack/alarm", []) == told
    assert line["step"] == 14 and any(line["hack/alarms"] for line in lines(workdir, "ppo")[12:])
