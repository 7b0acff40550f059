"""Held-out problems in the report: the same problem before and after, and the filters that find them."""

import json
import re

import pytest
from report.report_fixture import write_gsm8k, write_held_out, write_workdir

from stepjax.report.held_out import MOST_FOUND, MOST_PLAIN, held_out
from stepjax.report.page import write_report
from stepjax.report.read import read_run


def row(name, correct=True, steps=("a1", "b2"), **extra):
    return {"id": name, "problem": "?", "answer": "2", "correct": correct, "steps": list(steps), "extra": extra}


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    folder = write_held_out(write_workdir(tmp_path_factory.mktemp("runs") / "run", iterations=3))
    return held_out(read_run(folder).responses)


def test_the_same_problem_stands_before_and_after(shown):
    assert shown.stages == ["SFT", "PPO"] and shown.total == 16 and shown.rated and shown.scored
    third = next(pair for pair in shown.pairs if pair.name == "test/2")
    assert [side.stage for side in third.sides] == ["SFT", "PPO"] and str(third.problem) == "a=2;b=a+1;c=b+2;?c"
    assert [step.mark for step in third.sides[0].steps] == ["good", "bad", "good"]
    assert [step.mark for step in third.sides[1].steps] == ["good"] * 3
    assert [step.p for step in third.sides[0].steps] == ["0.97", "0.04", "0.97"]


def test_filters_count_all_problems_of_each_stage(shown):
    assert shown.filters == [
        ("wrong", "Wrong answer", [13, 1]),
        ("wrong-step", "Right answer with a wrong step", [1, 0]),
        ("disagrees", "PRM disagrees", [1, 1]),
        ("alarm", "Alarm", [1, 0]),
    ]
    found = {pair.name: [side.found for side in pair.sides] for pair in shown.pairs}
    assert found["test/1"] == [["wrong"], ["wrong"]] and found["test/2"] == [["wrong-step"], []]
    assert found["test/3"] == [["disagrees"]] * 2 and found["test/4"] == [["alarm"], []]
    misjudged = next(pair for pair in shown.pairs if pair.name == "test/3").sides[0].steps
    assert [step.differs for step in misjudged] == [True, False, False]


def test_what_a_filter_finds_later_in_the_file_is_there():
    rows = [row(f"{i}/0", correct=i < 40) for i in range(100)]
    shown = held_out({"sft": rows})
    assert [int(pair.name) for pair in shown.pairs] == [*range(MOST_PLAIN), *range(40, 40 + MOST_FOUND)]
    assert [pair.first for pair in shown.pairs] == [True] * MOST_PLAIN + [False] * MOST_FOUND
    assert shown.filters == [("wrong", "Wrong answer", [60]), ("alarm", "Alarm", [0])]


def test_a_problem_that_one_stage_lacks_and_further_samples_stay_out():
    shown = held_out({"sft": [row("a/0"), row("b/0")], "ppo": [row("a/0"), row("a/1"), row("c/0")]})
    assert [pair.name for pair in shown.pairs] == ["a"] and shown.total == 1
    assert held_out({}) is None and held_out({"sft": [row("a/0")], "ppo": [row("b/0")]}) is None


def test_values_of_another_kind_are_not_known():
    odd = {"id": 3, "steps": "abc", "correct": "yes", "extra": {"prm": [1]}}
    (pair,) = held_out({"ppo": [odd, row("b/0", prm=["x", 1.0], step_ratings=[5, True])]}).pairs[:1]
    assert pair.sides[0].correct is None and pair.sides[0].steps == []


def test_without_ratings_and_a_reward_model_there_are_no_marks_and_filters_for_them(tmp_path):
    folder = write_held_out(write_gsm8k(tmp_path / "run"), known=False)
    text = write_report(folder).read_text(encoding="utf-8")
    part = text[text.index('<section id="held-out">') : text.index('<section id="curves">')]
    assert re.findall(r'id="held-([\w-]+)"', part) == ["out", "all", "wrong", "alarm"]
    assert 'class="mark"' not in part and 'class="p' not in part.replace('class="pair', "").replace('class="prompt', "")


def test_filters_are_style_sheets_over_classes(tmp_path):
    folder = write_held_out(write_workdir(tmp_path / "run", iterations=3))
    text = write_report(folder).read_text(encoding="utf-8")
    cards = re.findall(r'<article class="card pair([^"]*)">', text)
    assert cards[1].split() == ["before-wrong", "after-wrong"] and cards[2].split() == ["before-wrong-step"]
    assert "#held-wrong:checked ~ #in-after:checked ~ .pairs > .pair:not(.after-wrong)" in text
    assert "extra" in cards[-1], "found by a filter alone"


def test_of_many_long_responses_only_the_first_are_kept_without_their_tokens(tmp_path):
    folder = write_workdir(tmp_path / "run", iterations=3)
    (folder / "responses").mkdir()
    rows = [row(f"test/{i // 4}/{i % 4}", prm=[0.5, 0.5], tokens=[1] * 100, text="x") for i in range(8)]
    (folder / "responses" / "ppo-test.jsonl").write_text("".join(json.dumps(of) + "\n" for of in rows))
    found = read_run(folder).responses
    assert [of["id"] for of in found["ppo"]] == ["test/0/0", "test/1/0"] and list(found) == ["ppo"]
    assert found["ppo"][0]["extra"] == {"prm": [0.5, 0.5]}


def test_responses_of_another_split_stay_out(tmp_path):
    folder = write_held_out(write_workdir(tmp_path / "run", iterations=3))
    for path in (folder / "responses").iterdir():
        path.rename(path.with_name(path.name.replace("test", "valid")))
    assert read_run(folder).responses == {}
