"""GSM8K: calculator notes, the splits, the verifier; on excerpts of the real files."""

import json
import shutil
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepjax.errors import UserError
from stepjax.tasks.gsm8k import GSM8K, check_calculations, trivial_calculations

DATA = Path(__file__).parent.parent / "data" / "gsm8k"


@pytest.fixture(scope="module")
def task():
    return GSM8K(DATA)


@pytest.mark.parametrize(
    ("step", "rating"),
    [
        ("Natalia sold 48/2 = <<48/2=24>>24 clips in May.", 1),
        ("Two notes: <<1+1=2>>2 and <<2*3=6>>6.", 1),
        ("Natalia sold 48/2 = <<48/2=25>>25 clips in May.", -1),
        ("One of two: <<1+1=2>>2 and <<2*3=7>>7.", -1),
        ("No note: 1+1 = 3.", 0),
        ("", 0),
        ("a < b > c and 1 < 2", 0),
        ("<<.25/.05=5>>", 1),
        ("<<20*0.01*2000=400.00>>", 1),
        ("<<11-20=-9>>", 1),
        ("<<3/4=3/4>>", 1),
        ("<<1/2=50%>>", 1),
        ("<<2000+1=2,001>>", 1),
        ("<< 48 / 2 = 24 >>", 1),
        ("<<+10=10>>", 1),
        # rounded or cut to the decimals written
        ("<<10/3=3.33>>", 1),
        ("<<10/3=3.3>>", 1),
        ("<<1/6=0.17>>", 1),
        ("<<1/6=.16>>", 1),
        ("<<2/3=0.66>>", 1),
        ("<<2/3=0.67>>", 1),
        ("<<-2/3=-0.66>>", 1),
        ("<<5/2=2.50>>", 1),
        ("<<10/3=3.34>>", -1),
        ("<<10/3=3.32>>", -1),
        ("<<2/3=0.65>>", -1),
        ("<<-2/3=-0.68>>", -1),
        # too coarse to hold
        ("<<10/3=3>>", -1),
        ("<<20/3=7>>", -1),
        ("<<2/3=0.7>>", -1),
        ("<<1/300=0.00>>", -1),
        ("<<1/30=0.0>>", -1),
        ("<<2/5=0>>", -1),
        # malformed
        ("<<48/2=24", -1),
        ("<<1+1=2>>2 and then <<2+2=4", -1),
        ("48/2=24>>24", -1),
        ("<<48/2>>24", -1),
        ("<<>>", -1),
        ("<<=>>", -1),
        ("<<48/2=>>", -1),
        ("<<=24>>", -1),
        ("<<2+2=4=4>>", -1),
        ("<<2+3=2+3>>", -1),
        ("<<x+1=2>>", -1),
        ("<<1/0=0>>", -1),
        ("<<2**3=8>>", -1),
        ("<<1+1=2<<1+1=2>>", -1),
        ("<<1+1=2\n>>", 1),
        ("<<5=5.>>", -1),
    ],
)
def test_check_calculations(step, rating):
    assert check_calculations(step) == rating


@pytest.mark.parametrize(
    "step",
    [
        "<<9**9**9**9=1>>",
        "<<" + "9" * 100_000 + "=1>>",
        "<<1=" + "9" * 100_000 + ">>",
        "<<" * 100_000,
        "<<1+1=2" * 20_000,
        "<<" + "(" * 100_000 + "1=1>>",
        "<<__import__('os').getcwd()=1>>",
    ],
)
def test_hostile_notes_end_at_once(step):
    started = time.perf_counter()
    assert check_calculations(step) == -1
    assert time.perf_counter() - started < 0.5


@settings(deadline=None, max_examples=200)
@given(st.text(alphabet="<>=0123456789+-*/(). ", max_size=60) | st.text(max_size=60))
def test_check_calculations_takes_any_text(step):
    assert check_calculations(step) in (-1, 0, 1)


@settings(deadline=None, max_examples=200)
@given(st.integers(-999, 999), st.integers(1, 999), st.integers(1, 6))
def test_rounding_is_off_by_less_than_a_unit(top, bottom, decimals):
    written = f"{top / bottom:.{decimals}f}"
    digits = written.replace("-", "").replace(".", "").lstrip("0")
    if len(digits) >= 2:
        assert check_calculations(f"<<{top}/{bottom}={written}>>") == 1
    nudged = f"{top / bottom + 1.01 * 10**-decimals:.{decimals + 2}f}"
    assert check_calculations(f"<<{top}/{bottom}={nudged}>>") == -1


def test_trivial_calculations():
    step = "<<1=1>>1 <<5*1=5>>5 <<3+0=3>>3 <<2+2=4>>4 <<5-5=0>>0 <<x=1>>1 <<1/0=1>> <<=>> <<1+1=2"
    assert trivial_calculations(step) == (3, 8)
    assert trivial_calculations("none: 1*1 = 1") == (0, 0)


def test_few_real_notes_are_trivial(task):
    counts = [trivial_calculations(p.solution) for p in task.problems("train")]
    assert sum(trivial for trivial, _ in counts) < 0.1 * sum(total for _, total in counts), "70=70 and its like"


def test_every_real_note_holds_and_every_solution_is_right(task):
    kinds = set()
    for split in ("train", "valid", "test"):
        for problem in task.problems(split):
            steps = problem.solution.split(task.separator)
            step_ratings = task.rate_steps(problem, steps)
            assert task.grade(problem, problem.solution), problem.id
            assert not task.grade(problem, problem.solution + "0"), problem.id
            assert [step_rating.correct for step_rating in step_ratings] == [None] * len(steps)
            assert all(step_rating.rating >= 0 for step_rating in step_ratings), problem.id
            assert [step_rating.kind for step_rating in step_ratings].index("answer") == len(steps) - 1
            kinds |= {(step_rating.kind, step_rating.rating) for step_rating in step_ratings}
    assert kinds == {("calculation", 1), ("text", 0), ("answer", 0)}


def test_the_verifier_rates_notes_alone(task):
    step_ratings = task.rate_steps(task.problems("test")[0], ["<<1+1=3>>3", "so what", "#### 3", " #### <<1+1=3>>3"])
    assert [(step_rating.rating, step_rating.kind) for step_rating in step_ratings] == [
        (-1, "calculation"),
        (0, "text"),
        (0, "answer"),
        (0, "answer"),
    ]


def test_problems_are_as_published(task):
    problem = task.problems("train")[0]
    assert problem.id == "train/0"
    assert problem.prompt.startswith("Natalia sold clips") and problem.prompt.endswith("May?\n")
    assert problem.answer == "72"
    assert problem.solution.split("\n") == [
        "Natalia sold 48/2 = <<48/2=24>>24 clips in May.",
        "Natalia sold 48+24 = <<48+24=72>>72 clips altogether in April and May.",
        "#### 72",
    ]


def test_solutions_have_no_blank_lines_and_keep_their_text(task):
    for split, name in (("train", "train"), ("valid", "train"), ("test", "test")):
        rows = [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text(encoding="utf-8").split("\n") if line]
        for problem in task.problems(split):
            row = rows[int(problem.id.split("/")[1])]
            assert problem.prompt == row["question"] + "\n"
            assert problem.solution.split("\n") == [line.strip() for line in row["answer"].split("\n") if line.strip()]
            assert "," not in problem.answer


def test_valid_is_the_end_of_the_training_file():
    task = GSM8K(DATA, valid_problems=3)
    train, valid = task.problems("train"), task.problems("valid")
    assert [problem.id for problem in valid] == ["train/37", "train/38", "train/39"]
    assert [problem.id for problem in train] == [f"train/{i}" for i in range(37)]
    assert len(GSM8K(DATA).problems("valid")) == 5, "at most an eighth of the file"
    assert len(GSM8K(DATA, valid_problems=0).problems("train")) == 40


def test_mistakes_are_named(tmp_path):
    with pytest.raises(UserError, match=r"train\.jsonl and test\.jsonl.*openai/grade-school-math"):
        GSM8K(tmp_path / "nowhere")
    shutil.copy(DATA / "train.jsonl", tmp_path)
    with pytest.raises(UserError, match=r"no file .*test\.jsonl"):
        GSM8K(tmp_path)
    with pytest.raises(UserError, match="valid_problems must be 0 or more"):
        GSM8K(DATA, valid_problems=-1)
    (tmp_path / "test.jsonl").write_text('{"question": "q", "answer": "no mark"}\n')
    task = GSM8K(tmp_path)
    with pytest.raises(UserError, match=r"test\.jsonl:1: field 'answer' has no line `####"):
        task.problems("test")
    with pytest.raises(UserError, match="no split 'dev'; there are train, valid and test"):
        task.problems("dev")
    (tmp_path / "test.jsonl").write_text("")
    with pytest.raises(UserError, match="has no problems"):
        task.problems("test")


def test_problems_are_chosen_by_the_steps_of_their_solution(task):
    for split in ("train", "test"):
        short = GSM8K(DATA, valid_problems=0, most_steps=2).problems(split)
        everything = GSM8K(DATA, valid_problems=0).problems(split)
        assert list(short) == [p for p in everything if len(p.solution.split("\n")) <= 3]  # and the line of the answer
        assert 0 < len(short) < len(everything)
    with pytest.raises(
        UserError, match=r"config\.task\.gsm8k_steps=1: .*train\.jsonl has no solution as short as that"
    ):
        GSM8K(DATA, most_steps=1).problems("train")
