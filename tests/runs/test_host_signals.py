"""What the host rates for the streams of a run: no more than their signals read, each figure in its shape."""

import dataclasses
import json

import numpy as np
import pytest

from stepjax.config import StreamOptions
from stepjax.errors import UserError
from stepjax.rewards.reward_streams import abstract_host_signals, host_figures
from stepjax.rewards.signals import SIGNALS
from stepjax.runs import host_signals
from stepjax.runs.host_signals import FIGURES, HostRewards, columns_of
from stepjax.runs.responses import Response
from stepjax.tasks.base import Problem, StepRating
from stepjax.tasks.jsonl import JsonlProblems

INDEX = np.array([[-1, 0, 0, 1], [-1, 0, -1, -1]])
END = np.array([[0, 0, 1, 1], [0, 1, 0, 0]], bool)
LIMITED, GOOD = Problem("test/0", "p", "1", step_limit=1), StepRating(1, True)
RESPONSES = [
    Response(LIMITED, [5], [7, 7, 7], "a\nb", ["a", "b"], True, True, [GOOD, StepRating(-1, False)]),
    Response(LIMITED, [5], [7], "a", ["a"], True, False, [GOOD]),
]


def rated(**signals: dict) -> dict[str, np.ndarray]:
    streams = {name: StreamOptions(**options) for name, options in signals.items()}
    found = HostRewards(streams)(RESPONSES, INDEX, END)
    like = abstract_host_signals(streams, *INDEX.shape, None)
    assert {k: (v.shape, v.dtype) for k, v in found.items()} == {k: (v.shape, v.dtype) for k, v in like.items()}
    return found


def test_every_run_knows_ratings_and_answers():
    found = rated(a={"signal": "kl"})
    assert set(found) == {"rating", "correct"}
    assert found["rating"].tolist() == [[0, 0, 1, -1], [0, 1, 0, 0]] and found["correct"].tolist() == [True, False]


def test_figures_and_texts_are_rated_where_a_stream_asks():
    found = rated(a={"signal": "limit"}, b={"signal": "format", "pattern": "a", "good": 2.0}, c={"signal": "limit"})
    assert found["limit_kept"].tolist() == [-1, 1]
    assert found["stream/b"].tolist() == [[0, 0, 2, -1], [0, 2, 0, 0]]


def test_problems_are_looked_through_for_functions_alone(monkeypatch):
    monkeypatch.setattr(host_signals, "columns_of", None)
    HostRewards({"a": StreamOptions(signal="format", pattern="a")}, [LIMITED])


def test_every_figure_that_a_signal_names_is_rated():
    streams = {name: StreamOptions(signal=name) for name in SIGNALS}
    assert set(host_figures(streams)) == set(FIGURES)


def levels(level, answers, finished, correct, tokens, problems, solutions, steps):
    assert (answers, finished, correct, tokens) == (["1", "2"], [True, True], [True, False], [[7, 7, 7], [7]])
    assert problems == ["alone", "p"] and solutions == ["worked", None] and steps == [["a", "b"], ["a"]]
    return [0.0 if number is None else number for number in level]


def wants(responses, levle):
    return [0.0] * len(responses)


def test_columns_come_from_a_file_of_problems(tmp_path):
    row = {"problem": "1 + 1?", "answer": 2, "solution": "2", "level": 5, "tags": ["easy"]}
    (tmp_path / "train.jsonl").write_text("".join(json.dumps({**row, "problem": f"{i}?"}) + "\n" for i in range(60)))
    problem = JsonlProblems(tmp_path / "train.jsonl").problems("train")[0]
    assert columns_of([problem, Problem("x", "p", "1", columns={"more": 1})]) == ["problem", "level", "tags", "more"]
    assert problem.columns["level"] == 5 and problem.answer == "2"


def test_a_users_function_sees_the_problems_rows():
    rows = [
        Problem(
            "test/0", "p", "1", "worked", question="alone", columns={"level": 3, "steps": "hidden by the response's"}
        ),
        Problem("test/1", "p", "2", columns={}),
    ]
    responses = [dataclasses.replace(r, problem=p) for r, p in zip(RESPONSES, rows, strict=True)]
    streams = {"mine": StreamOptions(signal="function", function=f"{__name__}:levels")}
    found = HostRewards(streams, rows)(responses, INDEX, END)
    assert found["stream/mine"].tolist() == [[0, 0, 0, 3], [0, 0, 0, 0]]
    streams = {"mine": StreamOptions(signal="function", function=f"{__name__}:wants")}
    with pytest.raises(
        UserError, match=r"^config\.ppo\.streams\.mine\.function: .*asks for 'levle' \(did you mean 'level'"
    ):
        HostRewards(streams, rows)  # before any round
