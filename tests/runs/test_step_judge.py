"""The judge in the training loop: asked once, in time, for no more money than allowed, and never guessed."""

import contextlib
import dataclasses
import json
import math
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from judges.chat_server import chat, chat_server, honest
from runs.tiny_run import OPTIONS, TinyRun, arrays, lines, stepjax, write_config

from stepjax.config import StreamOptions
from stepjax.config.step_judge import StepJudgeOptions
from stepjax.errors import UserError
from stepjax.options import parse
from stepjax.rewards.later import JudgeReward
from stepjax.runs.step_judge import StepJudge, judge_figures

PROBLEMS, ANSWERS = ["1 + 1?", "9 times 0?", "2?"], ["2", "0", "2"]
STEPS = [["x = 1", "x = 9"], ["y = 0"], ["z = 4", "z = 10", "done"]]
RATINGS = [(1, -1), (0,), (1, 0, 1)]


@contextlib.contextmanager
def judging(server, folder: Path, **changes):
    fields = {"url": server.url, "model": "m", "timeout": 5.0, "backoff": 0.01, "retries": 0, "seconds": 20.0}
    judge = StepJudge(StepJudgeOptions(**{**fields, **changes}), folder)
    try:
        yield judge
    finally:
        judge.close()


def test_ratings_come_back_in_order_and_are_asked_once_even_by_a_later_process(tmp_path):
    with chat_server(honest) as server:
        with judging(server, tmp_path) as judge:
            assert judge.ratings(PROBLEMS, ANSWERS, STEPS) == RATINGS
            assert judge.ratings(PROBLEMS + PROBLEMS, ANSWERS * 2, STEPS * 2) == RATINGS * 2
        with open(tmp_path / "answers-0.jsonl", "a") as file:
            file.write('{"question": "cut o')  # as a killed process leaves it
        with judging(server, tmp_path) as judge:
            assert judge.ratings(PROBLEMS, ANSWERS, STEPS) == RATINGS
            assert not judge.last[:, 0].any()
        assert len(server.requests) == 3
        with judging(server, tmp_path, temperature=0.5) as judge:  # another question
            judge.ratings(PROBLEMS[:1], ANSWERS[:1], STEPS[:1])
        assert len(server.requests) == 4


def test_questions_are_on_their_way_while_nobody_waits(tmp_path):
    with chat_server(lambda n, q: {**honest(n, q), "delay": 0.2}) as server, judging(server, tmp_path) as judge:
        start = time.monotonic()
        judge.ask(PROBLEMS, ANSWERS, STEPS)
        assert time.monotonic() - start < 0.15
        while len(server.requests) < 3:
            time.sleep(0.01)
        assert judge.ratings(PROBLEMS, ANSWERS, STEPS) == RATINGS and server.most > 1


def test_malformed_replies_earn_nothing_and_are_counted(tmp_path):
    def odd(number, question):
        return chat("I think it is fine.", 50, 7) if "9 times" in question else honest(number, question)

    options = StreamOptions(signal="judge", good=2.0, neutral=0.5, bad=-3.0)
    with chat_server(odd) as server, judging(server, tmp_path, asks=2, price_in=1e3, price_out=1e4) as judge:
        reward = JudgeReward(options, "config.ppo.streams.mine")
        reward.judge = judge
        found = reward(PROBLEMS, ANSWERS, STEPS)
        for one, wanted in zip(found, [[2.0, -3.0], [0.0], [2.0, 0.5, 2.0]], strict=True):
            np.testing.assert_array_equal(one, wanted)
        figures = judge_figures(judge.last, judge.options)
        assert len(server.requests) == 4  # the malformed one was asked for twice
        assert figures["judge/asked"] == 1 and figures["judge/malformed"] == pytest.approx(1 / 3)
        assert figures["judge/unanswered"] == figures["judge/unaffordable"] == 0
        assert figures["judge/tokens"] == 2 * 110 + 2 * 57
        assert figures["judge/cost"] == pytest.approx((200 + 100) * 1e-3 + (20 + 14) * 1e-2)
        assert judge.spent == pytest.approx(figures["judge/cost"])
        assert reward(PROBLEMS, ANSWERS, STEPS)[1].tolist() == [0.0] and len(server.requests) == 4


def test_a_slow_server_is_not_waited_for_and_may_answer_later(tmp_path, capsys):
    def slow(number, question):
        return {**honest(number, question), "delay": 1.0 if "9 times" in question else 0.0}

    with chat_server(slow) as server, judging(server, tmp_path, seconds=0.5) as judge:
        start = time.monotonic()
        assert judge.ratings(PROBLEMS, ANSWERS, STEPS) == [RATINGS[0], None, RATINGS[2]]
        assert time.monotonic() - start < 0.95 and judge.last[:, 2].tolist() == [0, 1, 0]
        time.sleep(0.8)
        assert judge.ratings(PROBLEMS, ANSWERS, STEPS) == RATINGS and len(server.requests) == 3
    with chat_server(lambda n, q: {"status": 500}) as server, judging(server, tmp_path / "down") as judge:
        assert judge.ratings(PROBLEMS, ANSWERS, STEPS) == [None] * 3
        assert "the judge rated none of 3 responses (status 500" in capsys.readouterr().out


def test_the_budget_is_the_whole_runs(tmp_path, capsys):
    prices = {"price_in": 1e4, "budget": 1.5, "concurrency": 1}  # a question costs 1
    many = [[f"x = {i}"] for i in range(6)]
    with chat_server(honest) as server:
        with judging(server, tmp_path, **prices) as judge:
            found = judge.ratings(["?"] * 6, ["2"] * 6, many)
            assert [one is not None for one in found] == [True, True, False, False, False, False]
            assert judge.last[:, 3].tolist() == [0, 0, 1, 1, 1, 1] and judge.spent == 2.0
        assert capsys.readouterr().out.count("budget=1.5 is spent") == 1
        with judging(server, tmp_path, **prices) as judge:  # continued: nothing is left
            assert judge.ratings(["?"], ["2"], [["new"]]) == [None]
        assert len(server.requests) == 2


def test_a_response_without_steps_is_not_asked_about(tmp_path):
    with chat_server(honest) as server, judging(server, tmp_path) as judge:
        assert judge.ratings(["1 + 1?"], ["2"], [[]]) == [()] and not server.requests


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"url": ""}, "config.ppo.judge.url: signal judge needs it"),
        ({"model": ""}, "config.ppo.judge.model: signal judge needs it"),
        ({"url": "nowhere"}, "config.ppo.judge.url: 'nowhere' is not an address"),
        ({"budget": 2.0}, "config.ppo.judge.budget: 2 needs the prices"),
        ({"extra_body": "[]"}, "config.ppo.judge.extra_body"),
        ({"rubric": "no_such.j2"}, "config.ppo.judge.rubric=no_such.j2"),
    ],
)
def test_what_makes_no_judge_is_said(tmp_path, changes, said):
    with pytest.raises(UserError, match=said.replace("[", r"\[")):
        StepJudge(StepJudgeOptions(**{"url": "http://localhost:1/v1", "model": "m", **changes}), tmp_path)


def test_a_wrong_key_ends_the_run(tmp_path):
    refuses = {"status": 401, "body": {"error": {"message": "no"}}}
    refused = pytest.raises(UserError, match="the key is refused")
    with chat_server(lambda n, q: refuses) as server, judging(server, tmp_path) as judge, refused:
        judge.ratings(PROBLEMS, ANSWERS, STEPS)


@pytest.mark.slow
def test_a_run_is_judged_killed_and_resumed_with_the_same_bits(tiny: TinyRun, tmp_path: Path) -> None:
    """The judge is not deterministic; its answers are kept, so that a repeated round finds the same ones."""

    def moody(number, question):
        if number % 7 == 3:
            return chat("no idea")
        verdicts = json.loads(honest(number, question)["body"]["choices"][0]["message"]["content"])["verdicts"]
        return chat(json.dumps({"verdicts": ["bad" if number % 3 == 0 else v for v in verdicts]}))

    streams = '{"judged": stream(signal="judge", critic=False), "outcome": stream(signal="outcome", critic=False)}'
    with chat_server(moody) as server:
        more = {"ppo.judge.url": server.url, "ppo.judge.model": "m", "ppo.iterations": 4, "ppo.waves": 2}
        config = write_config(tmp_path / "changed.py", {**OPTIONS, **more}, streams=streams)
        whole, parts = tiny.copy(tmp_path / "whole", without=("ppo",)), tmp_path / "parts"
        (whole / "config.json").write_text(json.dumps(dataclasses.asdict(parse([f"--config={config}"])[0])))
        assert stepjax("ppo", config, whole) == 0
        asked = len(server.requests)
        for line in lines(whole, "ppo"):
            assert math.isfinite(line["reward/judged"]) and 0 <= line["judge/malformed"] < 1
        assert lines(whole, "ppo")[0]["judge/asked"] > 0.5
        shutil.copytree(whole, parts)
        shutil.rmtree(parts / "checkpoints" / "ppo" / "4")
        assert stepjax("ppo", config, parts) == 0
        assert len(server.requests) == asked, "nothing is asked twice"
    found, wanted = arrays(parts, "ppo"), arrays(whole, "ppo")
    assert all(found[name].tobytes() == wanted[name].tobytes() for name in wanted)
    for ours, theirs in zip(lines(parts, "ppo"), lines(whole, "ppo"), strict=True):
        for name in ("judge/asked", "judge/tokens"):  # the continued run knew the answers
            assert ours.pop(name) <= theirs.pop(name)
        assert ours == theirs
