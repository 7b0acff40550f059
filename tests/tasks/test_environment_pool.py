"""Environments in their processes: whatever one of them does, the others are answered, and nothing waits."""

import base64
import dataclasses
import os
import pickle
import threading
import time

import pytest
from tasks import own_environments

from stepjax.config import EnvironmentOptions
from stepjax.errors import UserError
from stepjax.tasks import environment_server
from stepjax.tasks.base import Problem
from stepjax.tasks.environment_pool import EnvironmentPool
from stepjax.tasks.environment_process import EnvironmentProcess
from stepjax.tasks.registry import check_environment, open_environment
from stepjax.tasks.turns import CAUSES

MIXED = f"{own_environments.__name__}:Mixed"


def played(kinds, *, seconds=20.0, wait=0.0, processes=1, calls=64, turns=3):
    """The replies that each row gets to `turns` turns, and what ended it."""
    pool = EnvironmentPool(MIXED, {"wait": wait}, seconds=seconds, processes=processes, calls=calls)
    replies, ends = {row: [] for row in range(len(kinds))}, {}
    try:
        for row, kind in enumerate(kinds):
            pool.reset(row, Problem(str(row), "p", kind))
        while len(ends) < len(kinds):
            for answer in pool.poll(1.0):
                if answer.reply is None:
                    ends[answer.row] = (CAUSES[answer.cause], answer.told)
                    continue
                replies[answer.row].append(answer.reply.text)
                if len(replies[answer.row]) > turns:
                    ends[answer.row] = ("", "")
                    pool.forget(answer.row)
                else:
                    pool.step(answer.row, f"t{len(replies[answer.row])}")
    finally:
        pool.close()
    return replies, ends


GOOD = ["", "1:t1", "2:t2", "3:t3"]


def test_replies_and_causes():
    kinds = ["good", "raise", "greets", "type", "reward", "text", "leave", "reset", "good"]
    replies, ends = played(kinds)
    assert replies[0] == replies[8] == GOOD and replies[2] == ["hello", *GOOD[1:]]
    assert [ends[row][0] for row in range(9)] == [
        "", "raised", "", "malformed", "malformed", "malformed", "raised", "malformed", "",
    ]  # fmt: skip
    assert ends[1][1].startswith("ValueError: no way; ") and "own_environments.py:" in ends[1][1]
    assert ends[3][1] == "step returned int, not a Reply" and "nan" in ends[4][1] and "bytes" in ends[5][1]
    assert ends[7][1] == "reset returned int, not a text or None"


def test_one_that_sleeps_or_ends_its_process_takes_no_other_with_it():
    replies, ends = played(["good", "exit", "sleep", "good"], seconds=0.5)
    assert replies[0] == replies[3] == GOOD
    assert [ends[row][0] for row in range(4)] == ["", "lost", "late", ""]
    assert "exit status 3" in ends[1][1]


@pytest.mark.slow
def test_one_that_holds_the_interpreter_is_found_among_many():
    began = time.monotonic()
    replies, ends = played(["good", "spin", *["good"] * 6, "spin"], seconds=1.0, wait=0.1)
    assert all(replies[row] == GOOD for row in range(1, 8) if row != 1)
    assert ends[1][0] == ends[8][0] == "late" and "nothing else could run" in ends[1][1]
    assert time.monotonic() - began < 60


def test_replies_are_made_side_by_side():
    began = time.monotonic()
    replies, _ = played(["good"] * 30, wait=0.2, turns=1)
    together = time.monotonic() - began
    assert all(found == GOOD[:2] for found in replies.values())
    assert together < 30 * 0.2, "one after the other they take six seconds"


def test_no_more_calls_at_a_time_than_were_asked_for(monkeypatch):
    most = []
    look = EnvironmentProcess.look

    def watched(self):
        found = look(self)
        most.append(len(self._asked))
        return found

    monkeypatch.setattr(EnvironmentProcess, "look", watched)
    assert played(["good"] * 9, calls=2, processes=2, turns=1)[1].keys() == set(range(9))
    assert max(most) == 2


def test_a_process_that_was_killed_is_started_again_with_what_its_rows_had():
    pool = EnvironmentPool(MIXED, {}, seconds=20.0)
    pool.reset(0, Problem("0", "p", "good"))
    pool.reset(1, Problem("1", "p", "good"))
    texts = []
    for turn in range(4):
        answers = []
        while len(answers) < 2:
            answers += pool.poll(1.0)
        texts.append({a.row: a.reply.text for a in answers})
        if turn == 2:
            os.kill(pool._processes[0]._process.pid, 9)
        for row in (0, 1):
            pool.step(row, f"t{turn + 1}")
    pool.close()
    assert [text[0] for text in texts] == [text[1] for text in texts] == GOOD


def test_a_process_that_died_while_nothing_was_asked_costs_no_row():
    pool = EnvironmentPool(MIXED, {}, seconds=20.0)
    pool.reset(0, Problem("0", "p", "good"))
    found = []
    while not found:
        found = pool.poll(1.0)
    process = pool._processes[0]._process
    process.kill()
    process.wait()
    pool.step(0, "t1")
    found = []
    while not found:
        found = pool.poll(1.0)
    pool.close()
    assert [(answer.row, answer.reply.text) for answer in found] == [(0, "1:t1")]


def test_what_an_environment_starts_ends_with_its_process(tmp_path):
    pool = EnvironmentPool(f"{own_environments.__name__}:Parent", {"path": str(tmp_path / "pid")}, seconds=20.0)
    pool.reset(0, Problem("0", "p", "good"))
    while not pool.poll(1.0):
        pass
    child = int((tmp_path / "pid").read_text())
    os.kill(child, 0)
    pool.close()
    end = time.monotonic() + 10.0
    while time.monotonic() < end and os.path.exists(f"/proc/{child}") and not _over(child):
        time.sleep(0.01)
    assert not os.path.exists(f"/proc/{child}") or _over(child)


def _over(process):
    with open(f"/proc/{process}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "Z"


def test_a_question_that_nobody_waits_for_arms_no_alarm(monkeypatch):
    alarms, go = [], threading.Event()
    monkeypatch.setattr(environment_server.signal, "setitimer", lambda which, seconds: alarms.append(seconds))

    class Slow:
        def reset(self, problem):
            go.wait(20.0)

    server = environment_server.Server(Slow, lambda **fields: None)
    packed = base64.b64encode(pickle.dumps(Problem("0", "p", "a"))).decode()
    for number, seconds in ((1, 100.0), (2, 1.0)):
        server.ask({"ask": "reset", "id": number, "row": number, "seconds": seconds, "problem": packed, "turns": []})
    assert min(alarms) > 100.0, "the later question does not shorten the time of the earlier one"
    server.ask({"ask": "forget", "id": -1, "row": 1})
    assert alarms[-1] != 0
    server.ask({"ask": "forget", "id": -1, "row": 2})
    assert alarms[-1] == 0
    go.set()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "gues"}, "no environment 'gues' (did you mean 'guess'?)"),
        ({"name": "no_such_module:X"}, "no_such_module cannot be imported (ModuleNotFoundError"),
        (
            {"name": f"{own_environments.__name__}:Mixd"},
            "has no class 'Mixd'; it has Asks, Mixed, Moody, NoStep, Parent",
        ),
        ({"name": f"{own_environments.__name__}:NoStep"}, "has no method step"),
        ({"name": f"{own_environments.__name__}:Asks"}, "cannot be made with environment.options (TypeError"),
        ({"name": "guess", "options": ("cost",)}, "'cost' must be NAME=VALUE"),
        ({"name": "guess", "options": ("cots=1",)}, "cannot be made with environment.options (TypeError"),
    ],
)
def test_what_cannot_be_made_is_said_in_one_line(options, said):
    with pytest.raises(UserError, match=r"^config\.environment\.(name|options): ") as error:
        open_environment(dataclasses.replace(EnvironmentOptions(), **options))
    assert said in str(error.value) and "\n" not in str(error.value)


def test_options_are_json_or_text():
    options = EnvironmentOptions("own:X", ("a=1.5", "b=[1]", "c=true", "d=some text", "e="))
    assert check_environment(options) == ("own:X", {"a": 1.5, "b": [1], "c": True, "d": "some text", "e": ""})
