"""The slot engine: the same responses as all rows in lockstep, in as few steps as the queue allows."""

import functools

import jax
import numpy as np
import pytest
from models.tiny import policy, policy_params
from rollout.test_environment import rollout
from rollout.test_generate import EOS, LENGTHS, NEW, PROMPTS, WIDTH

from stepjax.parallel import batch_sharding, make_mesh, put, replicated
from stepjax.rollout.engine import generate_in_slots
from stepjax.rollout.generate import generate
from stepjax.rollout.sampling import Sampler, row_keys

SAMPLES = 3
IDS = np.arange(8 * SAMPLES, dtype=np.int32)
FIELDS = ("tokens", "prompt_length", "response_length", "finished")


@functools.cache
def in_slots(slots: int, shape: tuple[int, int, int] | None = None, temperature: float = 1.0):
    mesh = None if shape is None else make_mesh(*shape, devices=jax.devices()[: int(np.prod(shape))])

    @jax.jit
    def run(params, prompts, lengths, key, ids):
        return generate_in_slots(
            policy().bind(params), prompts, lengths, key, ids, slots=slots, new_tokens=NEW, eos=(EOS,),
            sampler=Sampler(temperature), mesh=mesh,
        )  # fmt: skip

    params, given, key = policy_params(), (PROMPTS, LENGTHS), jax.random.key(7)
    ids = IDS
    if mesh is not None:
        params = jax.device_put(params, policy().shardings(mesh))
        given, ids = put(given, batch_sharding(mesh)), put(ids, batch_sharding(mesh))
        key = jax.device_put(key, replicated(mesh))
        with jax.set_mesh(mesh):
            return jax.device_get(run(params, *given, key, ids))
    return jax.device_get(run(params, *given, key, ids))


@functools.cache
def in_lockstep(temperature: float = 1.0):
    prompts, lengths = np.repeat(PROMPTS, SAMPLES, axis=0), np.repeat(LENGTHS, SAMPLES)

    @jax.jit
    def run(params):
        keys = row_keys(jax.random.key(7), IDS)
        return generate(
            policy().bind(params), prompts, lengths, keys, new_tokens=NEW, eos=EOS, sampler=Sampler(temperature)
        )

    return jax.device_get(run(policy_params()))


@pytest.mark.parametrize("slots, shape", [(1, None), (5, None), (24, None), (40, None), (8, (8, 1, 1)), (8, (1, 4, 2))])
def test_responses_do_not_depend_on_the_slots_or_the_mesh(slots, shape):
    ours, theirs = in_slots(slots, shape), in_lockstep()
    assert theirs.finished.any() and not theirs.finished.all() and len(np.unique(theirs.response_length)) > 4
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(ours, field), getattr(theirs, field), err_msg=field)
    np.testing.assert_allclose(ours.logprobs, theirs.logprobs, atol=1e-5)
    assert ours.prompt_width == WIDTH and ours.observed is None


@pytest.mark.parametrize("slots", [3, 8])
def test_an_environment_writes_the_same_into_slots(slots):
    theirs, tool = rollout((1, 1, 1))

    @jax.jit
    def run(params):
        return generate_in_slots(
            policy().bind(params), PROMPTS, LENGTHS, jax.random.key(7), np.arange(8, dtype=np.int32), slots=slots,
            new_tokens=NEW, eos=(EOS,), sampler=Sampler(1.0), tool=tool,
        )  # fmt: skip

    ours = jax.device_get(run(policy_params()))
    assert theirs.observed.sum() > 6
    for field in (*FIELDS, "observed"):
        np.testing.assert_array_equal(getattr(ours, field), getattr(theirs, field), err_msg=field)
    np.testing.assert_allclose(ours.logprobs, theirs.logprobs, atol=1e-5)
