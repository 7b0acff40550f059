"""Graders and answer patterns of the user's: verdicts, mistakes in one line, bounds in time, forks."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from answers.test_bounds import wait_for
from tasks import own_graders

from stepjax.config import Config, TaskOptions
from stepjax.errors import UserError
from stepjax.tasks import grader_process
from stepjax.tasks.base import Problem
from stepjax.tasks.graders import OwnGrader, PatternGrader, make_grader
from stepjax.tasks.registry import make_task

DATA = Path(__file__).parent.parent / "data"
MODULE = own_graders.__name__


@pytest.fixture(autouse=True)
def _ends_processes():
    yield
    for grader in list(grader_process._alive):
        grader.close()


def options(**changes):
    return dataclasses.replace(Config().task, **changes)


def own(name, seconds=20.0):
    return OwnGrader(f"{MODULE}:{name}", seconds)


def line_of(text):
    lines = Path(own_graders.__file__).read_text(encoding="utf-8").split("\n")
    return f"{own_graders.__file__}:{1 + next(i for i, line in enumerate(lines) if text in line)}"


def test_a_function_of_the_users_decides():
    grader = own("longer")
    assert [grader.grade(response, "four") for response in ("three", "two", "\ud800" * 9, "")] == [
        True,
        False,
        True,
        False,
    ]
    assert own_graders.calls == [], "it runs in another process"
    assert own("reads_input").grade("x", "x"), "it cannot read the questions"


def test_every_task_with_final_answers_asks_it(tmp_path):
    rows = tmp_path / "own.jsonl"
    rows.write_text("".join(json.dumps({"problem": f"p{i}", "answer": "so\n#### 1,000"}) + "\n" for i in range(40)))
    task = options(name="jsonl", grader=f"{MODULE}:longer")
    task = dataclasses.replace(task, jsonl=dataclasses.replace(task.jsonl, train=str(rows)))
    jsonl = make_task(dataclasses.replace(Config(), task=task))
    problem = jsonl.problems("train")[0]
    assert problem.answer == "so\n#### 1,000", "the grader gets what the file says"
    assert jsonl.grade(problem, "x" * 20) and not jsonl.grade(problem, "x")
    task = options(name="gsm8k", gsm8k=str(DATA / "gsm8k"), grader=f"{MODULE}:longer")
    gsm8k = make_task(dataclasses.replace(Config(), task=task))
    assert gsm8k.grade(Problem("", "p", "4"), "no 4 at all") and not gsm8k.grade(
        Problem("", "p", ""), "no answer known"
    )


@pytest.mark.parametrize("option", ["grader", "answer_pattern"])
def test_a_task_with_rules_of_its_own_refuses_them(option):
    config = dataclasses.replace(Config(), task=options(name="register_chain", **{option: "a:b"}))
    with pytest.raises(UserError, match=rf"^config\.task\.{option}: register_chain grades by its own rules"):
        make_task(config)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (
            "nowhere_at_all:x",
            "nowhere_at_all cannot be imported (ModuleNotFoundError: No module named 'nowhere_at_all')",
        ),
        (f"{MODULE}:longr", f"{MODULE} has no function 'longr' (did you mean 'longer'?)"),
        (f"{MODULE}:number", f"{MODULE} has no function 'number'"),
        ("longer", "must be written package.module:function, not 'longer'"),
        (":longer", "must be written package.module:function, not ':longer'"),
    ],
)
def test_a_grader_that_cannot_be_called_is_said_at_the_start(path, said):
    with pytest.raises(UserError) as caught:
        make_grader(options(grader=path))
    assert str(caught.value).startswith(f"config.task.grader: {said}")
    assert "\n" not in str(caught.value)


def test_a_mistake_in_the_users_file_is_told_with_its_line(tmp_path, monkeypatch):
    (tmp_path / "broken_grader.py").write_text("x = 1\ndef grade(response, answer)\n")
    (tmp_path / "raising_grader.py").write_text("import json\njson.loads('{')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=r"\(SyntaxError: .*; .*broken_grader\.py:2\)"):
        OwnGrader("broken_grader:grade", 5.0)
    with pytest.raises(UserError, match=r"\(JSONDecodeError: .*\)"):
        OwnGrader("raising_grader:grade", 5.0)


def test_an_exception_is_one_line_with_its_place():
    with pytest.raises(UserError) as caught:
        own("raising").grade("x\ny", "x")
    where = line_of("the line that is told")
    assert str(caught.value) == f"config.task.grader: {MODULE}:raising raised KeyError: 'x\\ny'; {where}"
    with pytest.raises(UserError, match=r":undecided returned str, not True or False$"):
        own("undecided").grade("x", "x")
    with pytest.raises(UserError, match=r":leaving ended its process \(exit status 3\)$"):
        own("leaving").grade("x", "x")


@pytest.mark.parametrize(("name", "slow"), [("sleeping", "slow"), ("backtracking", "a" * 60 + "b")])
def test_a_call_that_takes_too_long_is_wrong_and_the_next_one_is_answered(name, slow, caplog):
    """Also inside of one long call of C code, which no signal handler of Python's could end."""
    grader = own(name, seconds=0.3)
    started = time.monotonic()
    assert not grader.grade(slow, slow)
    assert time.monotonic() - started < 10
    assert "took longer than 0.3 s (task.grader_seconds)" in caplog.text
    grader.processes[0].seconds = 20.0
    assert grader.grade("aa", "aa")


def test_a_grader_whose_process_was_killed_is_said_and_starts_again():
    grader = own("longer")
    grader.processes[0]._process.kill()
    with pytest.raises(UserError, match=rf"ended its process \(exit status -{int(signal.SIGKILL)}\)"):
        grader.grade("xx", "x")
    assert grader.grade("xx", "x")


def test_several_processes_grade_a_batch_in_order():
    grader = OwnGrader(f"{MODULE}:sleeping", 20.0, processes=3)
    questions = [(f"{i}", f"{i - i % 4}") for i in range(25)]
    assert grader.grade_many(questions) == [i % 4 == 0 for i in range(25)]
    assert all(process._process is not None for process in grader.processes)
    with pytest.raises(UserError, match=":raising raised KeyError"):
        OwnGrader(f"{MODULE}:raising", 20.0, processes=2).grade_many(questions)


@pytest.mark.filterwarnings("ignore:os.fork")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
def test_a_fork_while_a_thread_asks_can_ask_and_so_can_the_thread():
    grader = own("sleeping")
    done, verdicts = threading.Event(), []

    def work() -> None:
        while not done.is_set():
            verdicts.append(grader.grade("x", "x"))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(4):
            time.sleep(0.02)
            pid = os.fork()
            if pid == 0:
                os._exit(0 if grader.grade("y", "y") and not grader.grade("y", "z") else 1)
            assert wait_for(pid) == 0
    finally:
        done.set()
        thread.join()
    assert verdicts and all(verdicts)


def test_the_process_ends_with_the_caller():
    code = (
        f"from stepjax.tasks.graders import OwnGrader; g = OwnGrader('{MODULE}:sleeping', 0.5);"
        "print(g.processes[0]._process.pid, flush=True); input()"
    )
    folders = os.pathsep.join([str(Path(own_graders.__file__).parent.parent), *filter(None, sys.path)])
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": folders},
    ) as process:
        pid = int(process.stdout.readline())
        process.kill()
    until = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0]:
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("pattern", "response", "right"),
    [
        (r"ANSWER=(\S+)", "ANSWER=1 and ANSWER=42", True),
        (r"ANSWER=(\S+)", "ANSWER=42 and ANSWER=1", False),
        (r"ANSWER=(\S+)", r"\boxed{42}", False),
        (r"(?:result|sum): (.*)", "sum: $42$", True),
        (r"(?:result|sum): (.*)", r"sum: \boxed{42}", True),
        (r"x(\d+)?", "x42 x", False),
        (r"(?s)<out>(.*?)</out>", "<out>\n 42 \n</out>", True),
        (r"(?s)<out>(.*?)</out>", "<out></out>", False),
    ],
)
def test_the_last_match_of_a_pattern_is_the_answer(pattern, response, right):
    assert PatternGrader(pattern).grade(response, "42") == right


def test_votes_go_by_the_pattern():
    task = options(name="gsm8k", gsm8k=str(DATA / "gsm8k"), answer_pattern=r"A=(\S+)")
    gsm8k = make_task(dataclasses.replace(Config(), task=task))
    responses = ["A=4", "A=4.0", "#### 4", "A=5"]
    assert gsm8k.group_answers(responses) == [0, 0, -1, 1]
    assert gsm8k.grade_many([Problem("", "p", "4")] * 4, responses) == [True, True, False, False]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"answer_pattern": "(x"}, "config.task.answer_pattern: '(x' is not a regular expression: missing )"),
        ({"answer_pattern": "x"}, "config.task.answer_pattern: 'x' has no group; put the part that is the answer in"),
        ({"answer_pattern": "(x)", "grader": "a:b"}, "config.task.answer_pattern: config.task.grader reads responses"),
    ],
)
def test_patterns_that_cannot_be_used(changes, said):
    with pytest.raises(UserError, match="^" + re.escape(said)):
        make_grader(options(**changes))


def test_two_ways_to_find_an_answer_are_one_too_many():
    with pytest.raises(UserError, match=r"config\.task\.jsonl\.answer_prefix is set, too"):
        make_grader(TaskOptions(answer_pattern="(x)"), "Answer:")


def test_a_pattern_that_backtracks_without_end_is_no_answer(caplog, monkeypatch):
    monkeypatch.setattr("stepjax.tasks.graders.PATTERN_SECONDS", 0.2)
    grader = PatternGrader(r"((?:a|a|aa)+)+$")
    started = time.monotonic()
    assert not grader.grade("a" * 5000 + "b", "a")
    assert time.monotonic() - started < 5
    assert "takes longer than 0.2 s on a response" in caplog.text
