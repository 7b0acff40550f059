"""Task `math`: MATH, MATH-500 and AIME as they are published; steps of reference solutions."""

import json
import re
from pathlib import Path

import pytest

from stepjax.errors import UserError
from stepjax.tasks.math import MathProblems, steps_of

MATH500 = Path(__file__).parent.parent / "data" / "math" / "math500.jsonl"
ROWS = [json.loads(line) for line in MATH500.read_text().splitlines()]


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_math_500_is_read_and_its_solutions_are_right():
    task = MathProblems(MATH500, MATH500)
    problems = task.problems("test")
    assert len(problems) == len(ROWS) and task.separator == "\n\n"
    assert all(task.grade_many(problems, [problem.solution for problem in problems]))
    assert [problem.answer for problem in problems] == [row["answer"] for row in ROWS]
    assert problems[0].columns == {name: ROWS[0][name] for name in ("problem", "level", "subject", "unique_id")}
    assert problems[0].prompt == ROWS[0]["problem"] + "\n"


def test_math_as_it_was_first_published_has_its_answers_in_boxes(tmp_path):
    rows = [{"problem": r["problem"], "level": "Level 5", "type": "Algebra", "solution": r["solution"]} for r in ROWS]
    folder = tmp_path / "MATH" / "train" / "algebra"
    folder.mkdir(parents=True)
    for i, row in enumerate(rows):  # one file a problem
        (folder / f"{i:03}.json").write_text(json.dumps(row, indent=1))
    single = MathProblems(tmp_path / "MATH" / "train" / "*" / "*.json", MATH500).test
    read = MathProblems("x", str(folder / "*.json")).problems("test")
    known = MathProblems("x", single).problems("test")
    assert all(MathProblems("x").grade_many(read, [problem.solution for problem in known]))
    assert all(MathProblems("x").grade(a, rf"\boxed{{{b.answer}}}") for a, b in zip(read, known, strict=True))


@pytest.mark.parametrize(
    "row",
    [
        {"id": 60, "problem": "p?", "solution": "s \\boxed{033}", "answer": "033", "url": "u", "year": "2024"},
        {"ID": "2024-II-4", "Problem": "p?", "Solution": "s", "Answer": 33},
        {"question": "p?", "answer": "33"},
        {"problem": "p?", "answer": 33.0, "solution": None},
        {"problem": "p?", "answer": None, "solution": "so $\\boxed{33}$"},
    ],
)
def test_aime_files_of_all_spellings(tmp_path, row):
    task = MathProblems(MATH500, write(tmp_path / "aime.jsonl", [row]))
    (problem,) = task.problems("test")
    assert problem.text == "p?" and not {"answer", "Answer", "solution", "Solution"} & set(problem.columns)
    responses = [r"so \boxed{33}", r"\boxed{033}", "#### 33", r"\boxed{34}", "33"]
    assert task.grade_many([problem] * 5, responses) == [True, True, True, False, False]


def test_a_row_without_an_answer_is_named(tmp_path):
    for row, told in [
        (
            {"problem": "p", "solution": "no box"},
            "no field 'answer', and no box in a field 'solution'; the row has 'problem', 'solution'",
        ),
        ({"text": "p", "answer": "1"}, "no field 'problem'; the row has 'text', 'answer'"),
    ]:
        with pytest.raises(UserError, match=rf"bad\.jsonl:1: {told}$"):
            MathProblems("x", write(tmp_path / "bad.jsonl", [row])).problems("test")


@pytest.mark.parametrize(
    ("solution", "steps"),
    [
        ("a.\n\nB is so.  C.", ["a.", "B is so.  C."]),
        ("a.\r\n \t\r\nb", ["a.", "b"]),
        ("It is 3.5 m. Then $x.  Y$ is 2. \\[a.\n\nB\\]So", ["It is 3.5 m.", "Then $x.  Y$ is 2.", "\\[a.\nB\\]So"]),
        ("Let $x = 3.$ Then $x$ is odd! Is it? $y$.", ["Let $x = 3.$", "Then $x$ is odd!", "Is it?", "$y$."]),
        ("See Fig. A, i.e. Point B. Then.", ["See Fig. A, i.e. Point B. Then."]),
        ("A.\n\n[asy]\ndraw(a);\n\ndraw(b);\n[/asy]\n\nB.", ["A.\n[asy]\ndraw(a);\ndraw(b);\n[/asy]", "B."]),
        ("[asy]\nd\n[/asy]\n\nA.\n\nB.", ["[asy]\nd\n[/asy]\nA.", "B."]),
        ("One. Two.\n[asy]\nd. D\n[/asy]\nC.", ["One.", "Two.\n[asy]\nd. D\n[/asy]", "C."]),
        ("So\n\\begin{align*}\na &= 1. \\\\\n\nb &= 2.\n\\end{align*}\nThus c.", None),
        ("", []),
    ],
)
def test_steps_of_a_solution(solution, steps):
    if steps is None:
        steps = ["So\n\\begin{align*}\na &= 1. \\\\\nb &= 2.\n\\end{align*}", "Thus c."]
    assert steps_of(solution) == steps


def test_steps_keep_every_character_but_white_space():
    counts = []
    for row in ROWS:
        steps = steps_of(row["solution"])
        counts.append(len(steps))
        assert re.sub(r"\s", "", "".join(steps)) == re.sub(r"\s", "", row["solution"])
        assert not any("\n\n" in step or not step.strip() for step in steps)
    assert sum(counts) > 2 * len(counts), "most have only one paragraph"
