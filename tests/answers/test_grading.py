r"""Final answers: `#### 42`, `\boxed{…}`, what is equal, what is not, and that nothing hangs."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepjax.answers import grading, math_worker
from stepjax.answers.grading import final_answer, grade, grade_many, group_answers, same_answer

DATA = Path(__file__).parent.parent / "data"
MATH = [json.loads(line) for line in (DATA / "math" / "math500.jsonl").read_text(encoding="utf-8").split("\n") if line]
needs_math_verify = pytest.mark.skipif(not math_worker.available(), reason="math_verify is not installed")


@pytest.mark.parametrize(
    ("text", "answer", "boxed"),
    [
        ("so\n#### 42", "42", False),
        ("#### 41\nno:\n#### 42 \nbye", "42", False),
        ("####42", "42", False),
        ("####", "", False),
        (r"\boxed{42}", "42", True),
        (r"\fbox{42}", "42", True),
        (r"\boxed {\frac{1}{2}}.", r"\frac{1}{2}", True),
        (r"\boxed{\{1\}}", r"\{1\}", True),
        (r"\boxed{\left\{ 1 \right.}", r"\left\{ 1 \right.", True),
        (r"$\boxed 42$ is it", "42", True),
        (r"\boxed{1} and \boxed{2}", "2", True),
        (r"\boxed{1} and \boxed{2", "", True),
        (r"#### $\boxed{5}$", "5", True),
        ("\\boxed{5}\n#### 6", "6", False),
        ("#### Conclusion\n\\boxed{5}", "5", True),
    ],
)
def test_the_last_mark_decides(text, answer, boxed):
    assert final_answer(text) == (answer, boxed)


@pytest.mark.parametrize(
    "text", ["", "42", "The answer is 42.", "### 42", "##### 42", r"\boxedsomething{42}", "boxed{42}"]
)
def test_without_a_mark_there_is_no_answer(text):
    assert final_answer(text) is None
    assert not grade(text, "42")


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        *(("42", "42"), ("42.0", "42"), ("42.", "42"), ("$42", "42"), ("$1,234.50", "1234.5"), ("1,234", "1234")),
        *(("-5", "-5"), ("−5", "-5"), ("-$5", "-5"), ("$-5", "-5"), ("+5", "5"), ("50%", "50"), ("50 %", "50")),
        *(("42 apples", "42"), ("42 dollars per hour.", "42"), ("5 m", "5"), ("5cm", "5"), ("18 square feet", "18")),
        *(("1/2", "0.5"), (".5", "1/2"), ("1 1/2", "1.5"), ("007", "7"), ("**42**", "42"), ("x = 42", "42")),
        *((r"\$42", "42"), ("$42$", "42"), (r"\frac{1}{2}", "0.5"), ("42", "42 apples"), ("-1 1/2", "-1.5")),
        *(("42", "#### 42"), ("42", r"\boxed{42}"), ("72", "48+24=<<48+24=72>>72\n#### 72")),
    ],
)
def test_plain_numbers_that_are_equal(line, answer):
    assert grade(f"so\n#### {line}", answer)


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        *(("420", "42"), ("4", "42"), ("142", "42"), ("-42", "42"), ("42.1", "42"), ("4 2", "42"), ("42 43", "42")),
        *(
            ("42 or 43", "42"),
            ("42, 43", "42"),
            ("42 or so", "42"),
            ("42 million", "42"),
            ("42k", "42"),
            ("42M", "42"),
            ("42 x", "42"),
        ),
        *(("2x", "2"), ("2+3", "5"), ("about 42", "42"), ("42 = 43", "42"), ("43 = 42", "42"), ("1/3", "0.3333")),
        *(("0.5", "50"), ("1,2", "12"), ("10,00", "1000"), ("1/0", "1"), ("", "42"), ("4e1", "40"), ("five", "5")),
        *(("5 and a half", "5"), ("42", ""), ("٤٢", "42"), ("0", "")),
    ],
)
def test_plain_numbers_that_are_not(line, answer):
    assert not grade(f"The answer is {answer}, or\n#### {line}", answer)


@pytest.mark.parametrize(
    ("box", "answer"),
    [
        *((r"\dfrac12", r"\frac{1}{2}"), (r"\tfrac 1 2", r"\frac12"), (r"\frac{1}{2}", "0.5"), (r"1\frac12", "3/2")),
        *((r"\left( 3, \frac{\pi}{2} \right)", r"(3,\frac\pi2)"), (r"90^\circ", "90"), ("90", r"90^{\circ}")),
        *((r"\text{Evelyn}", "Evelyn"), ("Even", r"\text{even}"), (r"\text{(C)}", "C"), (r"\textbf{(C)}", "(C)")),
        *(
            ("x=5", "5"),
            ("5", "x=5"),
            ("f(x)=x^2", "x^{2}"),
            (r"\theta=\pi", r"\pi"),
            (r"(2,\infty)", r"x \in (2,\infty)"),
        ),
        *(
            (r"10,\!080", "10080"),
            ("10{,}080", r"10,\!080"),
            ("11111", r"11,\! 111"),
            (r"\$18.90", "18.9"),
            (r"5.4 \text{ cents}", "5.4"),
        ),
        *((r"864 \mbox{ inches}^2", "864"), (r"30\%", "30"), (r"\sqrt2", r"\sqrt{2}"), ("52_8", "52_{8}")),
        *(("30 degrees", r"30^\circ"), (r"x=4,x=5", "4,5"), (r"\(42\)", "42"), ("y = 2x + 3", "2x+3")),
        (r"\begin{pmatrix} -7 \\ 16 \end{pmatrix}", r"\begin{pmatrix}-7\\16\end{pmatrix}"),
    ],
)
def test_one_spelling_without_math_verify(box, answer, monkeypatch):
    monkeypatch.setattr("stepjax.answers.grading.equivalent_many", lambda _: pytest.fail("not decided by the spelling"))
    assert grade(rf"Hence $\boxed{{{box}}}$.", answer)


@needs_math_verify
@pytest.mark.parametrize(
    ("box", "answer"),
    [
        *(("-2+7i", "7i-2"), (r"\frac{2\sqrt{3}}{6}", r"\frac{\sqrt3}{3}"), ("2+3", "5"), ("2,1", "1,2")),
        *(("ab+2a+5b+10", "(a+5)(b+2)"), (r"1-\sqrt5, 1+\sqrt5", r"1 \pm \sqrt{5}"), (r"\sqrt{4}", "2")),
        (r"\begin{bmatrix} 0.5 \\ 2 \end{bmatrix}", r"\begin{pmatrix} 1/2 \\ 2 \end{pmatrix}"),
        (r"(12,102) \cup (2,12)", r"(2,12) \cup (12,102)"),
    ],
)
def test_equal_as_mathematics(box, answer):
    assert grade(rf"Hence $\boxed{{{box}}}$.", answer)


@pytest.mark.parametrize(
    ("box", "answer"),
    [
        *(("(2,1)", "(1,2)"), ("1,2", "(1,2)"), ("(1,2)", r"\{1,2\}"), ("[3,4)", "(3,4)"), ("(3,4]", "(3,4)")),
        *(("1=5", "5"), ("5=5", "5"), ("x=5=5", "5"), ("y=5", "x=5"), (r"5\approx 4", "5"), (r"5\equiv5", "5")),
        *(("x<5", "5"), ("5 6", "11"), (r"2\quad 3", "5"), ("52", "52_8"), ("52_9", "52_8"), ("stew", "west")),
        *((r"\text{seat}", r"\text{east}"), ("B", r"\text{(C)}"), ("1.414214", r"\sqrt2"), ("4,5", "4"), ("4", "4,5")),
        *((r"\text{The answer is 5}", "5"), (r"5 \text{ or } 6", "5"), (r"1-\sqrt{5}", r"1 \pm \sqrt{5}"), ("5x", "5")),
        *((r"5\text{ apples and }6\text{ pears}", "5"), ("", "5"), ("x=", "x"), ("a", "b"), ("6-5i", "6+5i")),
        *(("(2,102)", r"(2,12) \cup (12,102)"), (r"\frac{1}{0}", "1"), (r"\frac{14}{5}", r"\frac{14}{3}")),
    ],
)
def test_unequal(box, answer):
    assert not grade(rf"{answer} or $\boxed{{{box}}}$.", answer)


def test_math_solutions_are_right_by_their_spelling_alone(monkeypatch):
    monkeypatch.setattr("stepjax.answers.grading.equivalent_many", lambda questions: [False] * len(questions))
    for row in MATH:
        assert grade(row["solution"], row["answer"]), row["answer"]
        assert grade(row["solution"], rf"\boxed{{{row['answer']}}}"), row["answer"]
        assert not grade(row["solution"] + r" \boxed{}", row["answer"])
        assert not grade(row["solution"] + rf" \boxed{{{row['answer']}", row["answer"])


def test_math_answers_of_other_problems_are_wrong():
    for row, other in zip(MATH, MATH[1:] + MATH[:1], strict=True):
        assert not grade(rf"{row['answer']} \boxed{{{other['answer']}}}", row["answer"]), (
            other["answer"],
            row["answer"],
        )


HOSTILE = [
    *("9**9**9**9", "9^{9^{9^9}}", "9^9^9^9", "10^{10^{10}}", "1000000000!", "9!!!!!!", r"\binom{10^9}{5\cdot 10^8}"),
    *(r"\sum_{i=1}^{1000000} \frac{1}{i}", r"\int_0^1 e^{x^{x^x}} dx", r"\sin(10^{1000})", "-" * 290 + "5"),
    *("1" * 100_000, "{" * 100_000 + "5" + "}" * 100_000, "(" * 140 + "6" + ")" * 140, "1," * 140, "\\frac" * 50),
    *(r"\sqrt{" * 40 + "2" + "}" * 40, r"\text{" * 40 + "6" + "}" * 40, r"\boxed{" * 50_000, "####" * 50_000, "\ud800"),
    *("__import__('os').system('false')", "import os; os._exit(1)", "\x00", "5" + " " * 200 + "6", "5" + "a b" * 90),
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_answers_end_soon_and_are_wrong(text):
    math_worker.equivalent("x", "y")  # the worker's start is not what is timed here
    for response in (rf"\boxed{{{text}}}", f"#### {text}"):
        started = time.perf_counter()
        verdict = grade(response, "7")
        # Half a second of processor time on an idle machine; a machine that runs other tests, too, takes longer.
        assert time.perf_counter() - started < 4
        assert not verdict


@needs_math_verify
def test_the_worker_outlives_hostile_questions_and_is_replaced_when_killed():
    assert math_worker.equivalent("x+1", "1+x")
    first = math_worker._workers[0]
    assert not math_worker.equivalent(r"\int_0^1 e^{x^{x^x}} dx", "5")
    assert math_worker._workers[0] is first
    os.kill(first.process.pid, signal.SIGKILL)
    first.process.wait()
    assert math_worker.equivalent("x+1", "1+x")
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


ANSWERS = [
    *((r"\boxed{x+1}", "1+x", True), (r"\boxed{x+2}", "1+x", False), ("#### 7", "7", True), ("7", "7", False)),
    *((r"\boxed{\frac{2\sqrt{3}}{6}}", r"\frac{\sqrt3}{3}", True), (r"\boxed{1000!}", "7", False)),
    *((rf"\boxed{{{text}}}", "x-17y", False) for text in HOSTILE),
]


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
        "from stepjax.answers import math_worker as w; import os; w.equivalent('x', 'y');"
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
    math_worker.equivalent("x", "y")
    process = math_worker._workers[0].process
    math_worker.close_workers()
    assert process.poll() is not None
    assert math_worker.equivalent("x+1", "1+x")


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
def test_responses_are_grouped_by_what_their_answers_are_worth():
    boxes = ["0.5", r"\frac12", "2", "", "1/2", "x+1", "1+x", "2.0", r"\text{east}", "seat", "{" * 400]
    responses = [rf"\boxed{{{box}}}" for box in boxes] + ["no mark", "#### 2"]
    assert group_answers(responses) == [0, 0, 1, -1, 0, 2, 2, 1, 3, 4, -1, -1, 1]
    assert group_answers([]) == []


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


def test_without_math_verify_only_the_spelling_counts(monkeypatch):
    monkeypatch.setattr(math_worker, "available", lambda: False)
    grading._known.clear()
    assert grade(r"\boxed{\dfrac{a}{b}}", r"\frac ab")
    assert not grade(r"\boxed{b+a+a}", "2a+b")


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=80), st.text(max_size=20))
def test_any_text_is_graded(text, answer):
    for response in (text, f"#### {text}"):
        assert grade(response, answer) in (True, False)


@settings(deadline=None, max_examples=40)
@given(st.text(alphabet=r"\{}()[]^_,=+-*/!.0123456789xy frac sqrt", max_size=40))
def test_any_latex_is_graded(text):
    assert grade(rf"\boxed{{{text}}}", r"\sqrt{x}-17y") is False


@settings(deadline=None, max_examples=200)
@given(st.integers(-(10**12), 10**12), st.integers(-(10**12), 10**12))
def test_whole_numbers_are_equal_only_to_themselves(number, other):
    for line in (str(number), f"{number:,}", f"${number:,}", f"{number}.00", f"{number} units"):
        assert grade(f"#### {line}", str(number))
        assert grade(f"#### {line}", str(other)) == (number == other)
        assert same_answer(line, str(number), boxed=True)
