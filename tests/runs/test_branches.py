"""Monte Carlo values in the training loop: those of completions of each beginning alone, at a part of their cost."""

import dataclasses
import functools
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from models.tiny import policy, policy_params
from runs.tiny_run import OPTIONS, TinyRun, assert_same_run, lines, stepjax, write_config

from stepjax.config import Config, StreamOptions
from stepjax.config.ppo import MonteCarloOptions
from stepjax.errors import UserError
from stepjax.options import parse
from stepjax.parallel import fetch, make_mesh, replicated
from stepjax.rewards.later import MonteCarloReward
from stepjax.rollout.program import RolloutShape
from stepjax.runs.branches import Branches, _number
from stepjax.runs.response_sampling import ResponseSampler, make_sampler
from stepjax.runs.responses import Response
from stepjax.steps import StepSplitter
from stepjax.tasks.base import Problem
from stepjax.tasks.encoding import Prompts

PROMPT, NEW, EACH = 4, 12, 3
CONTENTS = [b"\n" if i % 5 == 0 else bytes([97 + i % 26]) for i in range(40)]
CONTENTS[3] = b""  # ends a response
SPLITTER = StepSplitter.of_bytes(CONTENTS, "\n")


def text(ids) -> str:
    return b"".join(CONTENTS[i] for i in ids).decode()


def run_on(shape: tuple[int, int, int]):
    config = Config()
    ppo = dataclasses.replace(config.ppo, prompt_tokens=PROMPT, max_new_tokens=NEW, halvings=0)
    mesh = make_mesh(*shape, devices=jax.devices()[: int(np.prod(shape))])
    return SimpleNamespace(
        config=dataclasses.replace(config, ppo=ppo), mesh=mesh, policy=policy(), splitter=SPLITTER,
        framing=SimpleNamespace(ends=(3,), text=text), tokenizer=None,
        task=SimpleNamespace(grade=lambda problem, text: len(text) % 2 == 0),
        key=lambda name: jax.device_put(jax.random.key(5), replicated(mesh)),
    )  # fmt: skip


def response(prompt: list[int], tokens: list[int], finished: bool, correct: bool) -> Response:
    steps = SPLITTER.texts(tokens)
    return Response(Problem(str(prompt), "", ""), prompt, tokens, text(tokens), steps, finished, correct, None)


RESPONSES = [
    response([7, 8], [11, 5, 12, 13, 10, 14, 3], True, True),  # three steps
    response([7, 8], [11, 5, 12, 20, 17, 3], True, False),  # three; begins as the first one does
    response([9, 9, 9], [11, 0, 16, 25, 18, 30, 21, 22, 23, 24, 26, 27], False, False),  # cut off
    response([9], [31, 3], True, True),  # one step
    response([9], [5, 3], True, False),  # none
]


@functools.cache
def valued(shape: tuple[int, int, int], number: int = 1):
    run = run_on(shape)
    branches = Branches(run, MonteCarloOptions(completions=EACH, rows=6))
    params = jax.device_put(policy_params(), policy().shardings(run.mesh))
    return branches(params, RESPONSES, number, np.arange(len(RESPONSES)))


@functools.cache
def plain():
    run = run_on((1, 1, 1))
    shape = RolloutShape(EACH, PROMPT + NEW, NEW, halvings=0)
    return run, ResponseSampler(run, shape, make_sampler(run.config.ppo))


def alone(row: int, length: int, number: int) -> float:
    """The share of right completions of one beginning, which is read for every one of them."""
    (run, sampler), one = plain(), RESPONSES[row]
    prompts = Prompts([one.problem], [[*one.prompt, *one.tokens[:length]]], 0)
    ids = (_number(one, length, number) + np.arange(EACH)) % 2**31
    params = jax.device_put(policy_params(), policy().shardings(run.mesh))
    rows = fetch(sampler(params, prompts, [0] * EACH, run.key(""), ids, np.full(EACH, NEW - length)))
    width, right = rows.prompt_width, []
    for i in range(EACH):
        more = rows.tokens[i, width : width + rows.response_length[i]].tolist()
        right.append(bool(rows.finished[i]) and len(text([*one.tokens[:length], *more])) % 2 == 0)
    return float(np.mean(right))


def test_values_are_those_of_completions_of_each_beginning_alone():
    values, figures = valued((1, 1, 1))
    assert [len(v) for v in values] == [3, 3, 4, 1, 0] and all(v.dtype == np.float32 for v in values)
    ends = {0: [2, 5], 1: [2, 4], 2: [2, 4, 6]}
    expected = {row: [alone(row, n, 1) for n in lengths] for row, lengths in ends.items()}
    assert len({x for of_one in expected.values() for x in of_one}) > 1
    for row, of_one in expected.items():
        np.testing.assert_allclose(values[row][:-1], of_one)
    assert [v[-1] for v in values[:4]] == [1, 0, 0, 1], "the last step has the outcome"
    assert figures["mc/branches"] == 6  # two of the seven begin alike


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(2, 2, 2)])
def test_on_eight_devices_too(shape):
    for found, wanted in zip(valued(shape)[0], valued((1, 1, 1))[0], strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_each_round_has_completions_of_its_own_and_a_repeated_round_the_same():
    numbers = {_number(RESPONSES[0], n, i) for n in (2, 5) for i in range(50)}
    assert len(numbers) == 100 and all(0 <= n < 2**31 for n in numbers)
    assert _number(RESPONSES[0], 2, 1) == _number(RESPONSES[1], 2, 1)


def test_responses_are_read_once():
    """With 9 completions of 8 steps of equal length: a response once, not 9 × 8 beginnings."""
    tokens = [11, 12, 13, 5] * 8 + [3]
    run = run_on((1, 1, 1))
    branches = Branches(run, MonteCarloOptions(completions=9, rows=90))
    one = response([7, 8], tokens, True, True)
    found = {(k,): SimpleNamespace(row=0, length=4 * k) for k in range(1, 8)}
    assert branches._read([one], found)["mc/read"] == pytest.approx(35 / (9 * sum(2 + 4 * k for k in range(1, 8))))
    assert branches._read([one], found)["mc/read"] < 0.05


@pytest.mark.slow
def test_a_run_values_its_steps_and_continues_with_the_same_bits(tiny: TinyRun, tmp_path: Path):
    more = {"ppo.iterations": 4, "ppo.mc.completions": 3, "ppo.mc.rows": 24, "ppo.waves": 2}
    streams = """{
        "mc": stream(signal="mc", estimator="progress", prompt_value="others", critic=False),
        "outcome": stream(signal="outcome", estimator="rloo", horizon="response", critic=False),
    }"""
    config = write_config(tmp_path / "changed.py", {**OPTIONS, **more}, streams=streams)
    whole, parts = tiny.copy(tmp_path / "whole", without=("ppo",)), tmp_path / "parts"
    (whole / "config.json").write_text(json.dumps(dataclasses.asdict(parse([f"--config={config}"])[0])))
    assert stepjax("ppo", config, whole) == 0
    for line in lines(whole, "ppo"):
        assert line["mc/branches"] > 0 and line["mc/tokens"] > 0 and 0 < line["mc/read"] < 1
        assert abs(line["reward/mc"]) <= 24 and line["advantage_std/mc"] > 0
    shutil.copytree(whole, parts)
    shutil.rmtree(parts / "checkpoints" / "ppo" / "4")
    assert stepjax("ppo", config, parts) == 0
    assert_same_run(parts, whole, ["ppo"])


def test_rewards_lie_between_bad_and_good():
    reward = MonteCarloReward(StreamOptions(signal="mc", good=2.0, bad=-1.0), "config.ppo.streams.v")
    np.testing.assert_allclose(reward([np.array([0, 0.5, 1], np.float32)])[0], [-1.0, 0.5, 2.0])
    with pytest.raises(UserError, match="completions value steps only while a policy is trained"):
        reward(None)
