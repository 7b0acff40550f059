"""Problems of the user's own: fields, splits, final answers, mistakes."""

import json
from pathlib import Path

import pytest

from stepjax.errors import UserError
from stepjax.tasks.base import Problem
from stepjax.tasks.jsonl import JsonlProblems

DATA = Path(__file__).parent.parent / "data"


@pytest.fixture
def write(tmp_path):
    def write(rows, name="train.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


def _rows(count):
    return [{"problem": f"What is {i}+1?", "answer": i + 1} for i in range(count)]


def test_rows_become_problems(write):
    rows = [
        {"problem": "p{x}", "answer": r"\frac{1}{2}", "solution": "a\n\nb"},
        {"problem": "q", "answer": 42},
        {"problem": "r", "answer": 0.5, "solution": None},
        {"problem": "s", "answer": "so\n#### 1,000"},
        {"problem": "t", "answer": r"it is $\boxed{x}$"},
    ]
    task = JsonlProblems(write(rows), write([{"problem": "z", "answer": "0"}], "test.jsonl"))
    assert list(task.problems("train")) == [
        Problem("train/0", "p{x}\n", r"\frac{1}{2}", "a\n\nb", question="p{x}"),
        Problem("train/1", "q\n", "42", question="q"),
        Problem("train/2", "r\n", "0.5", question="r"),
        Problem("train/3", "s\n", "1,000", question="s"),
        Problem("train/4", "t\n", "x", question="t"),
    ]
    assert list(task.problems("test")) == [Problem("test/0", "z\n", "0", question="z")]
    assert task.separator == "\n\n"
    assert task.rate_steps(task.problems("train")[0], ["a", "b"]) is None


def test_math_is_read_as_it_is_published():
    task = JsonlProblems(DATA / "math" / "math500.jsonl", held_out=0.2)
    problems = [*task.problems("train"), *task.problems("valid"), *task.problems("test")]
    assert len(problems) == 43
    assert all(task.grade(problem, problem.solution) for problem in problems)


def test_gsm8k_is_read_with_other_field_names():
    task = JsonlProblems(
        DATA / "gsm8k" / "train.jsonl",
        DATA / "gsm8k" / "test.jsonl",
        problem="question",
        solution="answer",
        separator="\n",
        prompt="Q: {problem}\nEnd with \\boxed{}.\n",
    )
    problem = task.problems("train")[0]
    assert problem.answer == "72"
    assert problem.prompt.startswith("Q: Natalia") and problem.prompt.endswith("\nEnd with \\boxed{}.\n")
    assert task.grade(problem, problem.solution)
    assert not task.grade(problem, "72")


def test_the_held_out_share_depends_on_the_problem_alone(write):
    rows = _rows(400)
    task = JsonlProblems(write(rows), held_out=0.25)
    train, valid, test = ({p.prompt for p in task.problems(split)} for split in ("train", "valid", "test"))
    assert len(train) + len(valid) + len(test) == 400 == len(train | valid | test)
    assert 70 <= len(test) <= 130 and len(valid) == (400 - len(test)) // 8
    again = JsonlProblems(write(rows[::-1] + rows[:50], "again.jsonl"), held_out=0.25)
    assert {problem.prompt for problem in again.problems("test")} == test, "whatever the order, doubled or not"
    assert {problem.prompt for problem in again.problems("valid")} == valid
    assert not {problem.prompt for problem in again.problems("train")} & valid
    more = JsonlProblems(write(rows), held_out=0.5)
    assert test < {problem.prompt for problem in more.problems("test")}
    assert not valid & {problem.prompt for problem in more.problems("test")}


def test_valid_is_a_share_of_the_training_file_with_a_bound(write):
    test = write([{"problem": "z", "answer": "0"}], "test.jsonl")
    for rows, share in ((1, 0), (7, 0), (8, 1), (100, 12), (5000, 512)):
        task = JsonlProblems(write(_rows(rows)), test)
        valid, train = task.problems("valid"), task.problems("train")
        assert (len(valid), len(train)) == (share, rows - share)
        assert not {problem.id for problem in valid} & {problem.id for problem in train}


def test_test_problems_are_left_out_of_training(write, caplog):
    task = JsonlProblems(write(_rows(10)), write(_rows(3), "test.jsonl"))
    assert [problem.id for problem in task.problems("train")] == [f"train/{i}" for i in range(3, 10)]
    assert not task.problems("valid")
    assert "left out 3 problems" in caplog.text


@pytest.mark.parametrize(
    ("response", "right"),
    [
        ("The answer is 43.", True),
        ("The answer is: 43", False),
        ("The answer is 42.\nNo. The answer is\n43 apples\nas said", True),
        ("The answer is 43. No, 44.", False),
        ("The answer is 43.\n#### 44", False),
        ("The answer is 44.\n#### 43", True),
        ("The answer is 44, so \\boxed{43}", True),
        ("43", False),
        ("The answer is", False),
    ],
)
def test_the_answer_prefix_is_the_last_resort(write, response, right):
    task = JsonlProblems(
        write(_rows(50)), write([{"problem": "p", "answer": "43"}], "t"), answer_prefix="The answer is"
    )
    assert task.grade(task.problems("test")[0], response) is right
    plain = JsonlProblems(write(_rows(50)), answer_prefix="")
    assert not plain.grade(Problem("x", "p", "43"), "I say 43.")
    assert plain.grade(Problem("x", "p", "43"), "So 43 it is.\nThe answer is 43."), "a last line that states it"


def test_mistakes_are_named(write, tmp_path):
    good = write(_rows(40))
    for options, said in [
        ({"prompt": "{question}"}, r"the prompt template must contain \{problem\}"),
        ({"separator": ""}, "the separator must not be empty"),
        ({"held_out": 0.0}, r"held_out must lie between 0 and 1, not 0\.0"),
        ({"held_out": 1.5}, "held_out must lie between 0 and 1"),
    ]:
        with pytest.raises(UserError, match=said):
            JsonlProblems(good, **options)
    with pytest.raises(UserError, match="no training file is named"):
        JsonlProblems("")
    with pytest.raises(UserError, match="no split 'dev'; there are train, valid and test"):
        JsonlProblems(good).problems("dev")
    with pytest.raises(UserError, match=r"trian\.jsonl: no such file; did you mean train\.jsonl\?"):
        JsonlProblems(tmp_path / "trian.jsonl").problems("train")
    with pytest.raises(UserError, match=r"none of its 1 problems are held out"):
        JsonlProblems(write(_rows(1), "one"), held_out=1e-9).problems("test")
    with pytest.raises(UserError, match=r"all of its 40 problems are test problems"):
        JsonlProblems(good, good).problems("train")
    with pytest.raises(UserError, match=r"empty: the file has no problems"):
        JsonlProblems(write([], "empty")).problems("train")
    for row, said in [
        ({"problem": "p"}, r"bad:1: no field 'answer'"),
        ({"problem": " ", "answer": 1}, r"bad:1: field 'problem' is empty"),
        ({"problem": "p", "answer": " "}, r"bad:1: field 'answer' is empty"),
        ({"problem": "p", "answer": r"\boxed{"}, r"bad:1: field 'answer' is empty"),
        ({"problem": "p", "answer": "1", "solution": ["a"]}, r"bad:1: field 'solution' must be text, not a list"),
    ]:
        with pytest.raises(UserError, match=said):
            JsonlProblems(write([row], "bad")).problems("train")


def test_a_field_cannot_hold_both_problem_and_answer(write):
    with pytest.raises(UserError, match="'text' cannot be the field of both the problem and the answer"):
        JsonlProblems(write([{"text": "1"}]), problem="text", answer="text")


def test_batches_and_votes_read_answers_as_grading_does(write):
    task = JsonlProblems(write(_rows(30)), answer_prefix="Answer:")
    problem = Problem("train/0", "p\n", "4")
    responses = ["Answer: 4", "#### 4", "Answer: 5\nAnswer: 4.0 \nbye", "Answer: 5", "4", r"\boxed{4} Answer: 5"]
    right = [True, True, True, False, False, True]
    assert task.grade_many([problem] * 6, responses) == right
    assert [task.grade(problem, response) for response in responses] == right
    assert task.group_answers(responses) == [0, 0, 0, 1, -1, 0]
