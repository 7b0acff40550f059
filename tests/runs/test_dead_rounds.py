"""Warnings of rounds in which nothing is learned."""

import dataclasses

import pytest

from stepjax.config import PPOOptions, StreamOptions
from stepjax.runs.dead_rounds import DeadRounds

OUTCOME = StreamOptions(signal="outcome", horizon="response")
FINE = {
    **{"reward_std/outcome": 0.5, "reward/outcome": 0.25, "reward_flat/outcome": 0.5, "reward_std/process": 0.3},
    **{"reward_flat/process": 0.0, "reward_std/kl": 0.0, "length/truncated": 0.1, "grad_norm/policy": 0.2},
}


def watch(streams: dict[str, StreamOptions], **options) -> DeadRounds:
    return DeadRounds(dataclasses.replace(PPOOptions(), streams=streams, prompts=4, samples=2, **options))


def told(dead: DeadRounds, *lines: dict, first: int = 1) -> list[list[str]]:
    return [dead.observe({**FINE, **line}, step) for step, line in enumerate(lines, first)]


def test_equal_rewards_are_told_once_and_again_after_ten_rounds():
    dead = watch({"outcome": OUTCOME, "kl": StreamOptions(signal="kl")})
    flat = {"reward_std/outcome": 0.0, "reward/outcome": 0.0}
    found = told(dead, {}, *[flat] * 10, {}, flat)
    assert [len(sentences) for sentences in found] == [0, 1, *[0] * 8, 1, 0, 1]
    assert found[1][0].startswith("all 8 responses earn the same (outcome 0), so nothing tells good ones from bad")
    assert found[10][0].endswith("(10 rounds in a row)") and found[12] == found[1]


def test_another_stream_that_differs_is_enough():
    dead = watch({"outcome": OUTCOME, "process": StreamOptions()})
    assert told(dead, {"reward_std/outcome": 0.0}) == [[]]
    ((sentence,),) = told(dead, {"reward_std/outcome": 0.0, "reward_std/process": 0.0})
    assert "outcome 0.25, process 0" in sentence


def test_flat_groups_matter_where_groups_are_compared():
    flat = {"reward_flat/outcome": 1.0}
    grouped = dataclasses.replace(OUTCOME, estimator="rloo")
    ((sentence,),) = told(watch({"outcome": grouped}), flat)
    assert sentence.startswith("to every problem all responses earn the same")
    assert told(watch({"outcome": grouped}), {"reward_flat/outcome": 0.75}) == [[]]
    assert told(watch({"outcome": OUTCOME}), flat) == [[]], "a critic compares with other problems"
    assert told(watch({"outcome": grouped, "process": StreamOptions()}), flat) == [[]]


def test_responses_that_are_cut_off():
    dead = watch({"outcome": OUTCOME}, max_new_tokens=24)
    assert told(dead, {"length/truncated": 0.5}) == [[]]
    ((sentence,),) = told(dead, {"length/truncated": 0.75})
    assert sentence.startswith("75 % of the responses are cut off at ppo.max_new_tokens=24")


def test_responses_that_an_environment_failed_are_not_too_long():
    dead = watch({"outcome": OUTCOME}, max_new_tokens=24)
    failed = {"length/truncated": 1.0, "environment/tokens": 0.2, "environment/raised": 0.5, "environment/late": 0.3}
    ((sentence,),) = told(dead, failed)
    assert sentence.startswith("the environment failed 80 % of the responses (late 30 %, raised 50 %)")
    assert told(dead, {**failed, "environment/raised": 0.1, "environment/turns": 0.4}) == [[]]
    ((sentence,),) = told(dead, {"length/truncated": 1.0, "environment/tokens": 0.75})
    assert sentence.startswith("75 % of the responses are cut off at ppo.max_new_tokens=24")


@pytest.mark.parametrize(
    ("options", "warned"),
    [({}, (1, 2, 3)), ({"critic_warmup": 2}, (3,)), ({"critic_refit": 2}, (2,)), ({"critic_refit": 3}, (2, 3))],
)
def test_a_gradient_of_0_where_the_policy_is_trained(options, warned):
    for step in (1, 2, 3):
        ((*sentences,),) = told(watch({"outcome": OUTCOME}, **options), {"grad_norm/policy": 0.0}, first=step)
        assert (sentences == ["the gradient of the policy is 0: this round changed nothing"]) == (step in warned)
