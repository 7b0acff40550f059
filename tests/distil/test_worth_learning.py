"""Which responses become conversations, and what their rows hold."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tasks.chat_templates import STYLES, tokenizer_of

from stepjax.config import ExportOptions, PromptOptions
from stepjax.data.framing import Framing
from stepjax.data.schema import LabelledSolution
from stepjax.distil.conversations import conversation, train_detail
from stepjax.distil.worth_learning import trace_error, worth_learning
from stepjax.errors import UserError
from stepjax.tasks.encoding import demonstration
from stepjax.tasks.files import FileProblems
from stepjax.tasks.prompts import Prompt
from stepjax.tasks.register_chain import RegisterChain, build_tokenizer

PROBLEM = "a=7;b=a+5;?b"
RIGHT = ("b=7+5=2", "?2")
REPAIRED = ("b=7+5=3", "!b=7+5=2", "?2")


def response(number: int, steps: tuple[str, ...], correct: bool | None = True, problem: str = PROBLEM, **extra: object):
    return LabelledSolution(problem, steps, correct=correct, answer="2", id=f"train/0/{number}", extra=extra)


RECORDS = [
    response(0, RIGHT, prm=[0.9, 0.8], step_ratings=[1, 1]),
    response(1, ("b=7+5=3", "?3"), False, prm=[0.1, 0.9], step_ratings=[-1, -1]),
    response(2, (" b=7+5=2", "?2 "), prm=[0.9, 0.8], step_ratings=[1, 1]),
    response(3, REPAIRED, prm=[0.2, 0.95, 0.95], step_ratings=[-1, 1, 1]),
    response(4, ("a=7", *RIGHT), prm=[0.7, 0.9, 0.9], step_ratings=[0, 1, 1]),
    response(5, RIGHT, False, unfinished=True, prm=[0.9, 0.9]),
    response(6, RIGHT, problem="a=1;b=a+1;?b", prm=[0.9, 0.6], step_ratings=[1, 1]),
]


def chosen(records=RECORDS, **options: object) -> list[str]:
    return [record.id[-1] for record in worth_learning(records, ExportOptions(**options)).chosen]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "0346"),
        ({"distinct": False}, "02346"),
        ({"right": False}, "01346"),
        ({"least_score": 0.75}, "0"),
        ({"least_score": 0.75, "tries": "mask"}, "03"),
        ({"tries": "drop"}, "046"),
        ({"per_problem": 1}, "06"),
        ({"per_problem": 2}, "046"),
        # its wrong step left aside, the repaired one has the highest least score
        ({"per_problem": 1, "tries": "mask"}, "36"),
    ],
)
def test_filters(options, expected):
    assert chosen(**options) == list(expected)


def test_what_was_left_out_is_counted_and_the_trace_error_is_of_right_responses():
    choice = worth_learning(RECORDS, ExportOptions(least_score=0.65, per_problem=1))
    assert choice.left_out == {
        "not right": 1,
        "cut off": 1,
        "repeated": 1,
        "below least_score=0.65": 2,
        "more than 1 of their problem": 1,
    }
    assert trace_error(choice.read) == pytest.approx(1 / 5) and trace_error(choice.chosen) == 0.0
    assert trace_error([RECORDS[1]]) is None


def test_without_exact_ratings_the_scores_say_which_steps_are_wrong():
    unrated = [replace(r, extra={"prm": r.extra["prm"]}) for r in RECORDS[:5]]
    assert chosen(unrated, least_score=0.5, tries="mask") == ["0", "3", "4"]
    assert chosen(unrated, least_score=0.5, tries="drop") == ["0", "4"]


def test_filters_that_need_what_a_response_lacks_are_one_line():
    bare = response(0, RIGHT)
    for records, options, told in (
        (
            [bare],
            {"least_score": 0.5},
            "least_score: response train/0/0 has no scores; sample with",
        ),
        ([replace(bare, correct=None)], {}, "right: response train/0/0 was never graded"),
        ([], {}, "responses: there are no responses there"),
    ):
        with pytest.raises(UserError, match=rf"^config\.export\.{told}[^\n]*$"):
            worth_learning(records, ExportOptions(**options))


def prompt(**options: object) -> Prompt:
    return Prompt(PromptOptions(**options), Framing.of(build_tokenizer()), RegisterChain())


def test_a_row_has_the_prompts_words_and_the_response():
    problem = prompt().problem_of(PROBLEM)
    row = conversation(RECORDS[3], problem, prompt(), ExportOptions(), "\n")
    turns = [{"role": "user", "content": PROBLEM}, {"role": "assistant", "content": "\n".join(REPAIRED)}]
    assert row == {"messages": turns, "id": "train/0/3", "answer": "2"}
    told = prompt(system="Solve it.", user="Registers: {problem}", prefill="b=")
    written = replace(RECORDS[3], extra={"text": "b=7+5=2\n?2"})
    messages = conversation(written, problem, told, ExportOptions(), "\n")["messages"]
    assert messages == [
        {"role": "system", "content": "Solve it."},
        {"role": "user", "content": f"Registers: {PROBLEM}"},
        {"role": "assistant", "content": "b=b=7+5=2\n?2"},
    ]


def test_wrong_tries_are_marked_for_axolotl():
    row = conversation(RECORDS[3], prompt().problem_of(PROBLEM), prompt(), ExportOptions(tries="mask"), "\n")
    user, answer = row["messages"]
    assert (user["train"], answer["train"]) == (False, True)
    stretches = [(d["begin_offset"], d["end_offset"], d["train"]) for d in answer["train_detail"]]
    assert stretches == [(0, 7, False), (8, len(answer["content"]) - 1, True)]
    assert answer["content"][8:] == "!b=7+5=2\n?2"
    clean = conversation(RECORDS[0], prompt().problem_of(PROBLEM), prompt(), ExportOptions(tries="mask"), "\n")
    assert clean["messages"][1] == {"role": "assistant", "content": "b=7+5=2\n?2", "train": True}
    detail = train_detail("x\n\nx\n\nx", ("x", "x", "x"), [1])
    assert [(d["begin_offset"], d["end_offset"], d["train"]) for d in detail] == [
        (0, 2, True),
        (3, 5, False),
        (6, 6, True),
    ]


def written(path: Path, *rows: object) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("style", ["plain", *STYLES])
def test_what_is_exported_is_learned_again_with_its_mask(tmp_path, style):
    """Written by one task, read by `files`: the same problem, and the wrong try is read and not learned."""
    row = conversation(RECORDS[3], prompt().problem_of(PROBLEM), prompt(), ExportOptions(tries="mask"), "\n")
    source = written(tmp_path / "rows.jsonl", row)
    test = written(tmp_path / "test.jsonl", {"problem": "p", "answer": "1"})
    task = FileProblems(source, test, separator="\n")
    (problem,) = task.problems("train")
    assert (problem.prompt, problem.answer) == (f"{PROBLEM}\n", "2")
    tokenizer = build_tokenizer() if style == "plain" else tokenizer_of(style)
    learner = Prompt(PromptOptions(), Framing.of(tokenizer), task)
    example = demonstration(learner, problem)
    learned = tokenizer.decode(example.targets[example.targets >= 0], skip_special_tokens=True)
    assert learned.strip().endswith("!b=7+5=2\n?2") and "b=7+5=3" not in learned
    assert "b=7+5=3" in tokenizer.decode(example.tokens, skip_special_tokens=True)
