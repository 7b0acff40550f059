"""Rows with `messages` as problems with solutions: what is read, what is refused."""

import json
from pathlib import Path

import pytest

from stepjax.errors import UserError
from stepjax.tasks.base import Problem
from stepjax.tasks.files import FileProblems


def turns(*pairs: tuple[str, str], **last: object) -> list[dict]:
    found = [{"role": role, "content": text} for role, text in pairs]
    return [*found[:-1], {**found[-1], **last}]


ASKED = (("user", "1+1? "), ("assistant", "1+1=2\n\n#### 2"))


def read(tmp_path: Path, *rows: dict, **options: str) -> list[Problem]:
    for name, some in (("train", rows), ("test", ({"messages": turns(("user", "p"), ("assistant", "=1"))},))):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    task = FileProblems(tmp_path / "train.jsonl", tmp_path / "test.jsonl", **options)
    return list(task.problems("train"))


def test_a_question_and_its_answer(tmp_path):
    plain, told, typed, last = read(
        tmp_path,
        {"messages": turns(*ASKED), "id": "x"},
        {"messages": turns(("system", "Be brief."), ("user", "2+2?"), ("assistant", "#### 4")), "answer": "4"},
        {"messages": turns(("user", "3+3?"), ("assistant", "So it is\n6 "))},
        {"problem": "4+4?", "answer": "8", "messages": []},
    )
    assert (plain.prompt, plain.text, plain.answer, plain.solution) == ("1+1?\n", "1+1?", "2", ASKED[1][1])
    assert dict(plain.columns) == {"id": "x"} and not plain.unlearned
    assert (told.answer, dict(told.columns)) == ("4", {"system": "Be brief."})
    assert typed.answer == "6", "no mark and no column: the last line"
    assert (last.text, last.solution) == ("4+4?", None), "a row that has the field is read by its fields"
    (found,) = read(tmp_path, {"messages": turns(*ASKED)}, solution_pattern=r"=(\d)")
    assert found.answer == "2"


def test_what_is_not_to_be_learned(tmp_path):
    detail = [{"begin_offset": 0, "end_offset": 4, "train": False}, {"begin_offset": 5, "end_offset": 9, "train": True}]
    whole, part, none = read(
        tmp_path,
        {"messages": turns(*ASKED, train=True)},
        {"messages": turns(("user", "x?"), ASKED[1], train=True, train_detail=detail)},
        {"messages": turns(("user", "y?"), ASKED[1], train=False)},
    )
    assert (whole.solution, whole.unlearned) == (ASKED[1][1], ())
    assert part.unlearned == ((0, 5),) and none.solution is None


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"messages": []}, "messages of system (or not), user and assistant, not none"),
        ({"messages": turns(*ASKED, *ASKED)}, "not user, assistant, user, assistant"),
        ({"messages": turns(ASKED[0])}, "not user"),
        ({"messages": [{"role": "user"}]}, "no field 'messages.0.content'"),
        ({"messages": turns(("user", "x"), ("assistant", " "))}, "the message of the assistant is empty"),
        ({"messages": turns((("user"), " "), ASKED[1])}, "the message of the user is empty"),
        ({"messages": turns(*ASKED, train="no")}, "field 'messages.1.train' must be true or false, not text"),
        ({"messages": turns(*ASKED, train_detail=[{}])}, "no field 'messages.1.train_detail.0.begin_offset'"),
        (
            {"messages": turns(*ASKED, train_detail=[{"begin_offset": 3, "end_offset": 99, "train": False}])},
            "train_detail 3 to 99 is no stretch of 13 characters",
        ),
    ],
)
def test_other_conversations_are_refused_in_one_line(tmp_path, row, told):
    with pytest.raises(UserError) as error:
        read(tmp_path, row)
    assert "train.jsonl:1: " in str(error.value) and told in str(error.value) and "\n" not in str(error.value)
