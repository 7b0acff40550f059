"""Rows that begin within a text: what they sample is what they sample behind that beginning alone."""

import functools

import jax
import numpy as np
import pytest
from models.tiny import CONFIG, policy, policy_params

from stepjax.parallel import batch_sharding, fetch, make_mesh, put, replicated
from stepjax.rollout.program import RolloutShape, on_device, rollout_program
from stepjax.rollout.sampling import Sampler
from stepjax.rollout.slots import Queue

EOS, WIDTH, NEW, ROWS, EACH = 3, 70, 6, 16, 4  # two widths of prefill
RNG = np.random.default_rng(0)
TEXTS = [RNG.integers(4, CONFIG.vocab, n).tolist() for n in (30, 9, 66, 12)]
CUTS = np.array([0, 3, 7, 20, 0, 1, 2, 8, 5, 60, 65, 11, 0, 11, 10, 4], np.int32)


def sampled(prompts: list[list[int]], prompt_of, cuts, samples: int, shape=(1, 1, 1), slots: int = 0):
    """Tokens and log-probabilities of a row behind each of the prompts."""
    on = make_mesh(*shape, devices=jax.devices()[: int(np.prod(shape))])
    size = RolloutShape(ROWS, WIDTH, NEW, samples=samples, slots=slots, halvings=0, branched=cuts is not None)
    program = compiled(shape, size)
    each, devices = on_device(size, int(np.prod(shape[:2]))), int(np.prod(shape[:2]))
    tokens, lengths = np.zeros((each.prompts * devices, WIDTH), np.int32), np.zeros(each.prompts * devices, np.int32)
    for i, ids in enumerate(prompts):
        tokens[i, WIDTH - len(ids) :], lengths[i] = ids, len(ids)
    order = np.arange(ROWS, dtype=np.int32)
    queue = Queue(np.asarray(prompt_of, np.int32) % each.prompts, order, np.full(ROWS, NEW, np.int32), cuts)
    placed = put((tokens, lengths, queue), batch_sharding(on))
    key = jax.device_put(jax.random.key(1), replicated(on))
    params = jax.device_put(policy_params(), policy().shardings(on))
    rows = fetch(program(params, *placed[:2], key, placed[2])[0])
    return rows.tokens[:, WIDTH:], rows.logprobs[:, WIDTH:], rows.response_length


@functools.cache
def compiled(shape, size):
    on = make_mesh(*shape, devices=jax.devices()[: int(np.prod(shape))])
    return rollout_program(policy(), on, size, eos=EOS, sampler=Sampler(1.0))


@functools.cache
def apart():
    """Each beginning prefilled by itself."""
    beginnings = [TEXTS[i // EACH][: len(TEXTS[i // EACH]) - CUTS[i]] for i in range(ROWS)]
    return sampled(beginnings, range(ROWS), None, 1)


@pytest.mark.parametrize(("shape", "slots"), [((1, 1, 1), 0), ((1, 1, 1), 3), ((2, 2, 2), 8)])
def test_branches_of_a_text_are_what_their_beginnings_alone_give(shape, slots):
    found = sampled(TEXTS, np.arange(ROWS) // EACH, CUTS, EACH, shape, slots)
    wanted = apart()
    np.testing.assert_array_equal(found[2], wanted[2])
    np.testing.assert_array_equal(found[0], wanted[0])
    np.testing.assert_allclose(found[1], wanted[1], atol=1e-5)
