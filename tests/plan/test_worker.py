"""Compiling apart: a compiler that dies costs one program's plan. What the compiler says when there is no room."""

import json
import pickle
import stat
import sys

import pytest

from stepjax.config import Config
from stepjax.errors import UserError
from stepjax.plan.compiled import ProgramPlan, refused
from stepjax.plan.worker import Job, ends_with, planned_apart

JOB = Job(Config(), "v5e:2x2", (1, 4, 1))

WORKER = """
import json, os, sys
plan = {plan!r}
names = ["a", "b", "c"]
with open({log!r}, "ab") as log:  # a job a process, each with its length before it
    job = sys.stdin.buffer.read()
    log.write(len(job).to_bytes(8, "big") + job)

def tell(**message):
    print(json.dumps(message), flush=True)

{before}
tell(names=names)
begun = {state!r}
first = open(begun).read().split() if os.path.exists(begun) else []
for name in names:
    if name not in first:
        open(begun, "a").write(name + " ")
        tell(begin=plan | dict(name=name))
        if name == "b":
            print("trouble ahead\\nthe last word", file=sys.stderr, flush=True)
            {b}
        tell(plan=plan | dict(name=name, fits=True, hbm_bytes_per_chip=5.0))
"""


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    """Puts a script in the place of the compiling process: what it does before it begins, and at program b. Gives the
    jobs that it was handed."""
    log = tmp_path / "jobs"

    def put(*, before: str = "", b: str = "pass") -> None:
        plan = ProgramPlan("", "ppo", 3, 10.0).as_json()
        script = tmp_path / "worker.py"
        script.write_text(WORKER.format(plan=plan, log=str(log), state=str(tmp_path / "begun"), before=before, b=b))
        python = tmp_path / "python"
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{script}"\n')
        python.chmod(python.stat().st_mode | stat.S_IEXEC)
        monkeypatch.setattr("stepjax.plan.worker.sys.executable", str(python))

    def jobs() -> list[Job]:
        data, found = log.read_bytes(), []
        while data:
            size = 8 + int.from_bytes(data[:8], "big")
            found.append(pickle.loads(data[8:size]))
            data = data[size:]
        return found

    put.jobs = jobs
    return put


def test_plans_come_in_order_and_are_announced(compiler):
    compiler()
    said = []
    found = planned_apart(JOB, said.append)
    assert [p.name for p in found] == said == ["a", "b", "c"]
    assert found[0] == ProgramPlan("a", "ppo", 3, 10.0, fits=True, hbm_bytes_per_chip=5.0)


@pytest.mark.parametrize(
    "death, cause",
    [
        ("os.kill(os.getpid(), 4)", "the compiler crashed (SIGILL)"),
        ("os.kill(os.getpid(), 9)", "killed, most likely because the host's memory was full"),
        ("sys.exit(3)", "compiling failed: the last word"),
    ],
)
def test_a_death_costs_one_program(compiler, death, cause):
    compiler(b=death)
    found = planned_apart(JOB)
    assert [p.name for p in found] == ["a", "b", "c"]
    assert [p.fits for p in found] == [True, None, True]
    assert cause in found[1].failure and found[1].runs == 3
    assert [job.done for job in compiler.jobs()] == [(), ("a", "b")], "what is planned is not planned again"


def test_a_mistake_of_the_users_is_passed_on(compiler):
    compiler(before='tell(error="config.mesh: no"); sys.exit()')
    with pytest.raises(UserError, match=r"config\.mesh: no"):
        planned_apart(JOB)


def test_a_process_that_cannot_start_is_no_silent_loop(compiler):
    compiler(before='sys.exit("no such module")')
    with pytest.raises(RuntimeError, match="status 1: no such module"):
        planned_apart(JOB)


def test_a_message_of_no_room():
    empty = ProgramPlan("update", "ppo", 1, beside=2.0**30)
    text = (
        "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory required for HLO "
        "temporaries (221.36G) exceeds available HBM (15.75G). HLO module: jit_update."
    )
    plan = refused(empty, text, 100 * 2.0**30, 1)
    assert plan.fits is False and plan.failure is None
    assert plan.hbm_bytes_per_chip == pytest.approx(222.36 * 2**30)
    assert plan.arguments == 100 * 2.0**30 and plan.temporaries == pytest.approx(121.36 * 2**30)
    older = "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 24.10G of 15.48G hbm. Exceeded by 8.62G."
    assert refused(empty, older, 0.0, 2).hbm_bytes_per_chip == pytest.approx((2 * 24.1 + 1) * 2**30)
    unknown = refused(empty, "RESOURCE_EXHAUSTED: another wording", 5.0, 1)
    assert unknown.fits is False and unknown.hbm_bytes_per_chip is None
    assert "Mosaic failed" in refused(empty, "INTERNAL: Mosaic failed\n to compile", 5.0, 1).failure


def test_a_plan_survives_json():
    plan = ProgramPlan("x", "ppo", 2, 1.0, largest=((3.0, "logits f32[3]"),), collectives={"all-gather": {"count": 1}})
    text = json.dumps(plan.as_json(), allow_nan=False)
    assert ProgramPlan.of_json(json.loads(text)) == plan
    assert json.loads(text)["largest"] == [{"bytes": 3.0, "name": "logits f32[3]"}]


def test_the_compiling_process_ends_with_the_one_that_began_it(monkeypatch):
    parents, ended = [7, 7, 1], []
    monkeypatch.setattr("stepjax.plan.worker.os.getppid", lambda: parents.pop(0))
    monkeypatch.setattr("stepjax.plan.worker.time.sleep", lambda seconds: None)
    monkeypatch.setattr("stepjax.plan.worker.os._exit", ended.append)
    ends_with(7)
    assert not parents and ended == [1]
