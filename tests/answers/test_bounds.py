"""Grading from threads, from forks, and of many answers at once."""

import os
import random
import threading
import time

import pytest
from answers.graded import ANSWERS, HOSTILE, MATH

from stepjax.answers import equality, grading
from stepjax.answers.evaluation import Evaluation
from stepjax.answers.grading import grade, grade_many, group_answers

LONG = 40.0  # seconds until a hang is one


def wait_for(pid: int) -> int | None:
    """The exit status of a child; None where it does not end."""
    until = time.monotonic() + LONG
    while time.monotonic() < until:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return None


@pytest.mark.filterwarnings("ignore:os.fork")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
def test_a_fork_while_a_thread_grades_can_grade():
    done = threading.Event()

    def work() -> None:
        i = 0
        while not done.is_set():
            i += 1
            grade(rf"\boxed{{\sin(x+{i})}}", rf"\sin({i}+x)")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for k in range(6):
            pid = os.fork()
            if pid == 0:
                os._exit(0 if grade(rf"\boxed{{\cos(x+{k})}}", rf"\cos({k}+x)") else 1)
            assert wait_for(pid) == 0
    finally:
        done.set()
        thread.join()


def test_threads_do_not_share_their_precision():
    """One works with thousands of bits while others need two hundred."""
    verdicts: dict[int, list[bool]] = {}

    def work(k: int) -> None:
        verdicts[k] = [
            grade(rf"\boxed{{\sqrt{{10^{{{20 + i + k}}}+1}}}}", rf"\sqrt{{10^{{{20 + i}}}+1}}") for i in range(30)
        ]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verdicts == {k: [k == 0] * 30 for k in range(4)}


def test_one_thread_at_a_time_works_with_irrational_numbers(monkeypatch):
    """The library behind them keeps tables of constants that two threads at once would spoil."""
    held = []
    inexact = Evaluation.inexact
    monkeypatch.setattr(Evaluation, "inexact", lambda self, x: held.append(equality._lock.locked()) or inexact(self, x))
    assert grade(r"\boxed{\pi+\sqrt{7919}}", r"\sqrt{7919}+\pi")
    assert grade(r"\boxed{y=\pi x+\sqrt{7919}}", r"y-\sqrt{7919}=\pi x")
    assert grade(r"\boxed{(\pi,\sqrt{7919})\cup(90,91)}", r"(90,91)\cup(\pi,\sqrt{7919})")
    assert held and all(held)


def test_a_batch_is_graded_as_one_by_one_and_in_order():
    mixed = ANSWERS * 3
    verdicts = grade_many([a for a, _, _ in mixed], [b for _, b, _ in mixed])
    assert verdicts == [right for _, _, right in mixed]
    assert grade_many([], []) == []
    with pytest.raises(ValueError, match="1 responses, but 2"):
        grade_many(["a"], ["b", "c"])


def test_hostile_answers_do_not_hold_up_a_vote(monkeypatch):
    asked = []
    monkeypatch.setattr(grading, "same_answer", lambda a, b, boxed: bool(asked.append((a, b))))
    groups = group_answers([rf"\boxed{{x^{{{i}}}+y}}" for i in range(100)])
    assert groups == list(range(100))
    assert len(asked) <= grading.MOST_COMPARED


def test_ten_thousand_answers_in_half_a_minute():
    """Answers of MATH, altered ones, those of other problems, one in fifty hostile."""
    random_, rows = random.Random(0), [row["answer"] for row in MATH]
    responses, answers = [], []
    for i in range(10_000):
        answer, kind = rows[i % len(rows)], random_.random()
        if kind < 0.3:
            given_ = answer
        elif kind < 0.5:
            given_ = random_.choice(
                [f"{answer}+0", rf"1\cdot {answer}", f"({answer})", answer.replace("frac", "dfrac")]
            )
        elif kind < 0.75:
            given_ = "".join(random_.choice("123456789") if c.isdigit() else c for c in answer)
        else:
            given_ = random_.choice(rows) if kind < 0.98 else f"{random_.choice(HOSTILE)}{i}"
        responses.append(rf"Hence $\boxed{{{given_}}}$.")
        answers.append(answer)
    started = time.process_time()
    verdicts = grade_many(responses, answers)
    assert time.process_time() - started < 30
    assert all(v for v, r, a in zip(verdicts, responses, answers, strict=True) if r == rf"Hence $\boxed{{{a}}}$.")
