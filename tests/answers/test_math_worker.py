"""The processes that compare mathematics: nothing hangs them, nothing outlives the caller, batches keep their order."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from answers.graded import ANSWERS, HOSTILE, MATH, equivalent, needs_math_verify

from stepjax.answers import grading, math_worker
from stepjax.answers.grading import grade, grade_many, group_answers


@needs_math_verify
def test_the_worker_outlives_hostile_questions_and_is_replaced_when_killed():
    assert equivalent("x+1", "1+x")
    first = math_worker._workers[0]
    assert not equivalent(r"\int_0^1 e^{x^{x^x}} dx", "5")
    assert math_worker._workers[0] is first
    os.kill(first.process.pid, signal.SIGKILL)
    first.process.wait()
    assert equivalent("x+1", "1+x")
    assert math_worker._workers[0] is not first


@needs_math_verify
def test_threads_may_grade():
    verdicts = {}
    threads = [
        threading.Thread(target=lambda k=k: verdicts.update({k: grade(rf"\boxed{{x+{k}}}", "x+3")})) for k in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verdicts == {k: k == 3 for k in range(5)}


@needs_math_verify
def test_a_batch_is_graded_as_one_by_one_and_in_order():
    mixed = ANSWERS * 3
    verdicts = grade_many([a for a, _, _ in mixed], [b for _, b, _ in mixed])
    assert verdicts == [right for _, _, right in mixed]
    assert verdicts[: len(ANSWERS)] == [grade(a, b) for a, b, _ in ANSWERS]
    assert grade_many([], []) == []
    with pytest.raises(ValueError, match="1 responses, but 2"):
        grade_many(["a"], ["b", "c"])


@needs_math_verify
def test_several_workers_give_every_question_its_own_verdict_even_where_one_is_killed():
    questions = [(f"x+{i}", f"{i % 3}+x") for i in range(30)]
    expected = [i == i % 3 for i in range(30)]
    assert math_worker.equivalent_many(questions, workers=2) == expected
    assert len(math_worker._workers) == 2
    os.kill(math_worker._workers[1].process.pid, signal.SIGKILL)
    assert math_worker.equivalent_many(questions, workers=2) == expected


@needs_math_verify
def test_workers_and_their_children_end_with_the_caller(tmp_path):
    """Even where it is killed in the middle of a hostile question."""
    code = (
        "from stepjax.answers import math_worker as w; w.equivalent_many([('x', 'y')]);"
        "print(w._workers[0].process.pid, flush=True); w.equivalent_many([(r'\\int_0^1 e^{x^{x^x}} dx', 'x')] * 99)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        worker = int(process.stdout.readline())
        _wait(lambda: any(ticks >= 10 for pid, ticks in _session(worker).items() if pid != worker))
        process.kill()
    _wait(lambda: not _session(worker))


def _wait(condition, seconds=60.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def _session(leader: int) -> dict[int, int]:
    """The processes of a session (each worker leads one) that are not just waiting to be reaped: pid, ticks worked."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found[int(entry.parent.name)] = int(fields[11]) + int(fields[12])
    return found


@needs_math_verify
def test_closed_workers_start_again():
    equivalent("x", "y")
    process = math_worker._workers[0].process
    math_worker.close_workers()
    assert process.poll() is not None
    assert equivalent("x+1", "1+x")


@needs_math_verify
def test_a_child_forgets_after_a_slow_question_and_after_many(monkeypatch):
    """No verdict depends on what was asked before."""
    assert math_worker.equivalent_many([("x+1", "1+x"), (r"\int_0^1 e^{x^{x^x}} dx", "5")] * 3 + [("x+1", "1+x")]) == [
        *([True, False] * 3),
        True,
    ]
    many = [(f"x+{i}", f"{i}+x") for i in range(math_worker.CHILD_QUESTIONS + 20)]
    assert all(math_worker.equivalent_many(many, workers=1))


@needs_math_verify
def test_hostile_answers_do_not_hold_up_a_vote(monkeypatch):
    asked = []
    monkeypatch.setattr(grading, "equivalent_many", lambda q: [asked.append(pair) or False for pair in q])
    grading._known.clear()
    groups = group_answers([rf"\boxed{{x^{{{i}}}+y}}" for i in range(100)])
    assert groups == list(range(100))
    assert len(asked) <= grading.MOST_COMPARED
    grading._known.clear()


@pytest.mark.slow
@needs_math_verify
def test_ten_thousand_answers_a_minute(capsys):
    """Answers of MATH, altered ones, those of other problems, one in fifty hostile; a minute of two processors."""
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
    math_worker.close_workers()
    started, before = time.perf_counter(), os.times()
    verdicts = grade_many(responses, answers)
    seconds = time.perf_counter() - started
    math_worker.close_workers()  # only then is their processor time counted
    after = os.times()
    spent = sum(after[:4]) - sum(before[:4])
    with capsys.disabled():
        print(f"\n10,000 answers in {seconds:.1f} s, {spent:.1f} s of processor time, {sum(verdicts)} right")
    assert spent < 2 * 60
    assert all(v for v, r, a in zip(verdicts, responses, answers, strict=True) if r == rf"Hence $\boxed{{{a}}}$.")
