"""Partial rollouts: what a round takes, what goes on, and that no token is lost or drawn twice."""

import dataclasses
import functools
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from models.tiny import policy, policy_params
from runs.test_ppo_run import texts
from runs.tiny_run import OPTIONS, TinyRun, arrays, assert_same_run, lines, stepjax, write_config

from stepjax.config import Config
from stepjax.options import parse
from stepjax.parallel import fetch, make_mesh, replicated
from stepjax.rollout.program import RolloutShape
from stepjax.runs.carried import Group, GroupArrays, Part
from stepjax.runs.carried_rounds import CarriedRounds, spare_groups
from stepjax.runs.ppo_programs import round_shape
from stepjax.runs.response_sampling import ResponseSampler, make_sampler
from stepjax.tasks.base import Problem
from stepjax.tasks.encoding import Prompts

PROMPT, NEW, SAMPLES, GROUPS, ROUNDS = 4, 12, 2, 4, 4
RNG = np.random.default_rng(0)
PROMPTS = Prompts(
    [Problem(str(i), "", "") for i in range(9)], [RNG.integers(4, 40, 1 + i % PROMPT).tolist() for i in range(9)], 0
)
OTHER = jax.tree.map(lambda x: np.asarray(x) * np.float32(1.05), policy_params())
"""Another policy than the first."""


def run_on(mesh: tuple[int, int, int], **changes):
    config = Config()
    sizes = {
        "prompts": GROUPS, "samples": SAMPLES, "prompt_tokens": PROMPT, "max_new_tokens": NEW, "slots": 5,
        "halvings": 0, "importance_cap": 2.0, "carry": 1, **changes,
    }  # fmt: skip
    on = make_mesh(*mesh, devices=jax.devices()[: int(np.prod(mesh))])
    return SimpleNamespace(
        config=dataclasses.replace(config, ppo=dataclasses.replace(config.ppo, **sizes)), mesh=on, policy=policy(),
        framing=SimpleNamespace(ends=(3,)),
    )  # fmt: skip


def problem_of(number: int) -> int:
    return number * 5 % 9


ORDER: Any = SimpleNamespace(prompts=PROMPTS, problem=problem_of)


def placed(run, tree):
    return jax.device_put(tree, policy().shardings(run.mesh))


@functools.cache
def whole_responses() -> dict[int, list[int]]:
    """The responses that the first policy draws, by their numbers, each in one go."""
    run = run_on((1, 1, 1))
    sampler = ResponseSampler(
        SimpleNamespace(**vars(run), splitter=SimpleNamespace(separator="\n"), tokenizer=None),  # type: ignore[arg-type]
        RolloutShape(ROUNDS * GROUPS * SAMPLES * 2, PROMPT, NEW, halvings=0), make_sampler(run.config.ppo),
    )  # fmt: skip
    numbers = np.arange(ROUNDS * GROUPS * 2)
    chosen = np.repeat([problem_of(n) for n in numbers], SAMPLES)
    ids = GROUPS * SAMPLES + np.arange(len(chosen))
    key = jax.device_put(jax.random.key(7), replicated(run.mesh))
    rows = fetch(sampler(placed(run, policy_params()), PROMPTS, chosen, key, ids))
    return {i: rows.tokens[i, PROMPT : PROMPT + rows.response_length[i]].tolist() for i in range(len(chosen))}


@functools.cache
def compiled(mesh, **changes):
    run = run_on(mesh, **changes)
    return run, CarriedRounds(run, round_shape(run.config.ppo))  # type: ignore[arg-type]


@functools.cache
def rounds(policies=1, mesh=(1, 1, 1), **changes):
    """Rounds with one policy, or two in turn; of each the figures, rows, and what goes on."""
    run, carried = compiled(mesh, **changes)
    key, found, carried.carried = jax.device_put(jax.random.key(7), replicated(run.mesh)), [], []
    for number in range(1, ROUNDS + 1):
        params = placed(run, policy_params() if number % policies == 1 % policies else OTHER)
        made = carried(params, ORDER, key, number, round_shape(run.config.ppo))
        found.append((made, fetch(made.rows), list(carried.carried)))
    return found


@pytest.mark.parametrize(
    ("mesh", "changes"),
    [
        ((1, 1, 1), {"carry": 1}),
        pytest.param((2, 2, 2), {"slots": 8}, marks=pytest.mark.slow),
        pytest.param((1, 1, 1), {"slots": 0, "carry": 2}, marks=pytest.mark.slow),
        pytest.param((1, 1, 1), {"block": 2, "cache_tokens": 60}, marks=pytest.mark.slow),
    ],
)
def test_with_one_policy_a_carried_response_is_the_one_that_is_drawn_in_one_go(mesh, changes):
    theirs, seen, went_on = whole_responses(), [], 0.0
    for made, rows, _ in rounds(mesh=mesh, **changes):
        assert rows.tokens.shape == (GROUPS * SAMPLES, PROMPT + NEW)
        for row in range(GROUPS * SAMPLES):
            count, problem = rows.response_length[row], int(made.problems[row].id)
            assert rows.tokens[row, PROMPT - rows.prompt_length[row] : PROMPT].tolist() == PROMPTS.tokens[problem]
            response = rows.tokens[row, PROMPT : PROMPT + count].tolist()
            known = [i for i, tokens in theirs.items() if tokens == response and problem_of(i // SAMPLES) == problem]
            known = [i for i in known if i not in seen and i % SAMPLES == row % SAMPLES]
            assert known
            seen.append(known[0])
            assert bool(rows.finished[row]) == (response[-1] == 3)
        went_on += made.figures["carry/tokens"]
    assert went_on > 0 and len(seen) == ROUNDS * GROUPS * SAMPLES


@pytest.mark.parametrize("carry", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_every_token_keeps_the_probability_of_the_policy_that_drew_it_and_none_gets_too_old(carry):
    made, same = rounds(2, carry=carry), rounds(carry=carry)
    for number, (of_round, rows, goes_on) in enumerate(made, 1):
        assert of_round.figures["carry/oldest"] <= carry
        assert all(group.age(number + 1) <= carry for group in goes_on)
        mask = np.asarray(rows.mask)
        assert not rows.logprobs[~mask].any() and (rows.logprobs[mask] < 0).all()
    # What the first round leaves was drawn by its policy, and is found again as it was.
    left = {logprob for group in made[0][2] for part in group.parts for logprob in part.logprobs.tolist()}
    taken, of_one = (set(x[1][1].logprobs[np.asarray(x[1][1].mask)].tolist()) for x in (made, same))
    goes_on = {logprob for group in made[1][2] for part in group.parts for logprob in part.logprobs.tolist()}
    assert made[1][0].figures["carry/tokens"] > 0 and left and left <= taken | goes_on
    # The other policy gives what it draws other probabilities.
    assert len(taken - left) > len(taken) / 4 and not (taken - left) & of_one


def test_groups_are_the_same_from_a_checkpoint():
    made = rounds(carry=1)[0][2]
    kept = GroupArrays(len(made), SAMPLES, NEW, None)
    again = kept.groups_of(kept.of(made))
    assert any(len(part.tokens) for group in made for part in group.parts)
    for ours, theirs in zip(again, made, strict=True):
        assert (ours.number, ours.problem, ours.begun) == (theirs.number, theirs.problem, theirs.begun)
        for part, other in zip(ours.parts, theirs.parts, strict=True):
            assert (part.ended, part.finished) == (other.ended, other.finished)
            for name in ("tokens", "logprobs", "drawn"):
                np.testing.assert_array_equal(getattr(part, name), getattr(other, name))


def test_a_group_is_as_old_as_its_first_token():
    drawn = [np.array(x, np.int32) for x in ([], [3, 3, 4], [5])]
    parts = tuple(Part(x, x.astype(np.float32), x) for x in drawn)
    assert Group(0, 0, parts).age(6) == 3 and Group(0, 0, parts[:1]).age(6) == 0
    options = run_on((1, 1, 1), prompts=6, samples=1).config.ppo
    assert spare_groups(options, 1) == 3 and spare_groups(options, 4) == 4


@pytest.mark.slow
def test_a_run_goes_on_in_the_middle_of_carried_responses(tiny: TinyRun, tmp_path: Path):
    changes = {
        "ppo.carry": 2, "ppo.importance_cap": 2.0, "ppo.iterations": 4, "ppo.checkpoint_every": 2, "ppo.slots": 6,
        "ppo.top_k": 9, "ppo.samples_every": 1, "ppo.log_samples": 16,
    }  # fmt: skip
    config = write_config(tmp_path / "changed.py", {**OPTIONS, **changes})
    whole, parts = tiny.copy(tmp_path / "whole", without=("ppo",)), tmp_path / "parts"
    (whole / "config.json").write_text(json.dumps(dataclasses.asdict(parse([f"--config={config}"])[0])))
    assert stepjax("ppo", config, whole) == 0
    found = lines(whole, "ppo")
    assert found[0]["carry/tokens"] == 0 < max(line["carry/tokens"] for line in found[1:])
    for line in found:
        assert line["carry/oldest"] <= 2 and (line["mismatch/mean"] > 1e-4) == (line["carry/tokens"] > 0)
        assert line["carry/age"] <= line["carry/oldest"] and line["carry/restarted"] == 0
    saved = arrays(whole, "ppo", 2)
    assert saved["carried/length"].sum() > 0 and saved["carried/tokens"].shape == (8, 24)
    shutil.copytree(whole, parts)
    shutil.rmtree(parts / "checkpoints" / "ppo" / "4")
    assert stepjax("ppo", config, parts) == 0
    assert_same_run(parts, whole, ["ppo"])
    assert len(texts(parts)) == 4 * 16


@pytest.mark.parametrize(
    "changes, said",
    [
        ({}, "config.ppo.importance_cap: carried responses need one"),
        ({"ppo.stale": True, "ppo.importance_cap": 2.0}, "config.ppo.stale: not with ppo.carry=1: "),
        ({"ppo.waves": 2, "ppo.importance_cap": 2.0}, "config.ppo.waves: not with ppo.carry=1: "),
        ({"ppo.refill": 2, "ppo.importance_cap": 2.0}, "config.ppo.refill: not with ppo.carry=1: "),
        (
            {"ppo.environment": "calculator", "ppo.importance_cap": 2.0},
            "config.ppo.environment: not with ppo.carry=1: ",
        ),
    ],
)
def test_what_does_not_go_together_is_said(tmp_path, changes, said, capsys):
    config = write_config(tmp_path / "carry.py", {**OPTIONS, "ppo.carry": 1, **changes})
    assert stepjax("ppo", config, tmp_path / "run") == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
