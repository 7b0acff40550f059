"""The cache that a rollout takes, from its sizes: a ring or blocks, how many, and what is refused."""

import dataclasses

import jax
import pytest

from stepjax.errors import UserError
from stepjax.parallel import make_mesh
from stepjax.rollout.memory import CacheLayout
from stepjax.rollout.program import RolloutShape, fitting, on_device

SIZES = {"prompt_width": 300, "new_tokens": 4096, "prompts": 6, "slots": 16}


@pytest.mark.parametrize("platform", ["cpu", "tpu", "gpu"])
def test_short_responses_have_a_ring_and_long_ones_blocks(platform):
    short = CacheLayout.choose(platform, **SIZES | {"prompt_width": 48, "new_tokens": 80})
    assert short.page == 0 and short.growths == 0 and short.ample
    long = CacheLayout.choose(platform, **SIZES)
    assert long.page == {"gpu": 64}.get(platform, 128) and long.blocks * long.page >= 16 * 2048
    assert CacheLayout.choose("cpu", **SIZES | {"prompt_width": 32, "new_tokens": 256}).growths == 1


def test_blocks_never_hold_more_than_all_rows_can():
    whole = 6 * ((300 - 1) // 128) + 16 * -(-4095 // 128)
    assert CacheLayout.choose("cpu", **SIZES, tokens=10**9) == CacheLayout(128, whole, True)
    less = CacheLayout.choose("cpu", **SIZES, tokens=128 * (whole - 1))
    assert less == CacheLayout(128, whole - 1, False)
    few = CacheLayout.choose("cpu", **SIZES | {"slots": 1, "new_tokens": 900})
    assert few.ample, "2,048 tokens a slot are more than a row has"


def test_a_cache_that_cannot_hold_the_prompts_and_a_response_is_refused_with_the_least():
    least = (6 * 2 + 32) * 128
    assert CacheLayout.choose("cpu", **SIZES, tokens=least).blocks == 6 * 2 + 32
    with pytest.raises(UserError, match=rf"config.ppo.cache_tokens: {least - 1} tokens .* give at least {least}"):
        CacheLayout.choose("cpu", **SIZES, tokens=least - 1)


def test_rollouts_with_many_prompts_take_as_many_as_the_cache_holds():
    """Those of an evaluation or of labels, beside the round for which the cache was chosen."""
    mesh = make_mesh(2, 1, 1, devices=jax.devices()[:2])
    shape = RolloutShape(64, 800, 2000, block=100, cache_tokens=100 * (20 + 9 * 7))
    assert fitting(shape, mesh).rows == 16, "8 prompts of 7 blocks a device, and a response of 20"
    assert fitting(dataclasses.replace(shape, cache_tokens=0), mesh).rows == 64
    assert fitting(dataclasses.replace(shape, cache_tokens=100 * 27), mesh).rows == 2
    with pytest.raises(UserError, match=r"config.ppo.cache_tokens: 2699 tokens a device"):
        fitting(dataclasses.replace(shape, cache_tokens=2699), mesh)


def test_the_cache_decides_the_slots_where_they_are_left_to_it():
    shape = RolloutShape(64, 100, 1900, cache_tokens=40_000)
    assert on_device(shape, 1).slots == 20, "rows of the most tokens"
    assert on_device(dataclasses.replace(shape, held=1000), 1).slots == 40
    assert on_device(dataclasses.replace(shape, held=10), 1).slots == 64, "no more than there are rows"
    assert on_device(dataclasses.replace(shape, held=1000), 4).slots == 16, "the cache is that of a device"
    assert on_device(dataclasses.replace(shape, held=1000, slots=8), 1).slots == 8
    assert on_device(dataclasses.replace(shape, cache_tokens=0), 1).slots == 64
