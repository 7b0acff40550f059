"""The number of slots follows the lengths of the last rounds where the cache is bounded and nothing else says it."""

import json
from types import SimpleNamespace

import jax
import pytest

from stepjax.config import PPOOptions
from stepjax.parallel import make_mesh
from stepjax.rollout.program import on_device
from stepjax.runs.ppo_programs import PPOPrograms, round_shape


def slots_after(lengths: list[float], stopped: int = 0, **changes: int) -> list[int]:
    """The slots of the rollout after each round of these mean lengths; `stopped`: after that many rounds, another
    process goes on from what a checkpoint has."""
    options = PPOOptions(prompts=64, prompt_tokens=100, max_new_tokens=1900, **changes)
    mesh = make_mesh(1, 1, 1, devices=jax.devices()[:1])
    made = SimpleNamespace(shape=round_shape(options))

    def make_round(shape):
        made.shape = shape

    def fresh():
        made.shape = round_shape(options)
        return SimpleNamespace(
            options=options, sampler=made, run=SimpleNamespace(mesh=mesh), _lengths=[], _make_round=make_round
        )

    programs = fresh()
    found = [on_device(made.shape, 1).slots]
    for number, tokens in enumerate(lengths, 1):
        PPOPrograms.observe_lengths(programs, tokens)
        if number == stopped:
            kept = json.loads(json.dumps(PPOPrograms.lengths_seen(programs)))
            programs = fresh()
            PPOPrograms.recall_lengths(programs, kept)
        found.append(on_device(made.shape, 1).slots)
    return found


def test_slots_grow_where_responses_are_shorter_than_they_may_be():
    assert slots_after([1000.0, 1000.0], cache_tokens=40_000) == [20, 40, 40]


def test_slots_stay_while_they_are_within_half_of_what_the_cache_allows():
    assert slots_after([1000.0, 900.0, 1100.0], cache_tokens=40_000) == [20, 40, 40, 40]


def test_the_last_rounds_count():
    # Means of 1000; of 1000 and 2000; of these and 3000 (20 slots would do: near enough); of the last three, 3000.
    assert slots_after([1000.0, 2000.0, 3000.0, 4000.0], cache_tokens=40_000) == [20, 40, 26, 26, 13]


def test_given_slots_and_an_unbounded_cache_stay_as_they_are():
    assert slots_after([100.0], cache_tokens=40_000, slots=8) == [8, 8]
    assert slots_after([100.0]) == [64, 64]


@pytest.mark.parametrize("stopped", [1, 2, 3])
def test_a_run_that_is_continued_has_the_slots_of_one_that_was_never_stopped(stopped):
    lengths = [1000.0, 2000.0, 3000.0, 4000.0]
    assert slots_after(lengths, stopped, cache_tokens=40_000) == slots_after(lengths, cache_tokens=40_000)
    assert slots_after([100.0], 1, cache_tokens=40_000, slots=8) == [8, 8]
