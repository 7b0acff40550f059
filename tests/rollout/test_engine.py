"""The slot engine: the same responses as all rows in lockstep, in as few steps as the queue allows."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models.tiny import CONFIG, policy, policy_params
from rollout.lockstep import generate
from rollout.test_environment import rollout
from rollout.test_program import EOS, LENGTHS, NEW, PROMPTS, WIDTH, learner_logprobs

import stepjax.models.decoder as decoder
import stepjax.rollout.prefill as prefilling
from stepjax.models import Definition, LanguageModel
from stepjax.parallel import batch_sharding, make_mesh, put, replicated
from stepjax.rollout.decoding import Decoding
from stepjax.rollout.engine import generate_in_slots
from stepjax.rollout.sampling import Sampler

SAMPLES = 3
IDS = np.arange(8 * SAMPLES, dtype=np.int32)
FIELDS = ("tokens", "prompt_length", "response_length", "finished")


@functools.cache
def in_slots(slots: int, shape: tuple[int, int, int] | None = None, temperature: float = 1.0):
    mesh = None if shape is None else make_mesh(*shape, devices=jax.devices()[: int(np.prod(shape))])

    @jax.jit
    def run(params, prompts, lengths, key, ids):
        how = Decoding(NEW, slots, (EOS,), Sampler(temperature), halvings=2, fewest=1)
        return generate_in_slots(policy().bind(params), prompts, lengths, key, ids, how, mesh=mesh)[0]

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
        keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(7), i))(IDS)
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
    assert ours.prompt_width == WIDTH and ours.env_tokens is None


@pytest.mark.parametrize("slots", [3, 8])
def test_an_environment_writes_the_same_into_slots(slots):
    theirs, tool = rollout((1, 1, 1))

    @jax.jit
    def run(params):
        how = Decoding(NEW, slots, (EOS,), Sampler(1.0), tool, halvings=2, fewest=1)
        ids = np.arange(8, dtype=np.int32)
        return generate_in_slots(policy().bind(params), PROMPTS, LENGTHS, jax.random.key(7), ids, how)[0]

    ours = jax.device_get(run(policy_params()))
    assert theirs.env_tokens.sum() > 6
    for field in (*FIELDS, "env_tokens"):
        np.testing.assert_array_equal(getattr(ours, field), getattr(theirs, field), err_msg=field)
    np.testing.assert_allclose(ours.logprobs, theirs.logprobs, atol=1e-5)


def engine(how: Decoding, definition=None, **more):
    @jax.jit
    def run(params):
        model = (definition or policy()).bind(params)
        return generate_in_slots(model, PROMPTS, LENGTHS, jax.random.key(7), IDS, how, **more)

    return jax.device_get(run(policy_params()))


def same(ours, theirs, rows=slice(None), atol=1e-5):
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(ours, field)[rows], getattr(theirs, field)[rows], err_msg=field)
    np.testing.assert_allclose(ours.logprobs[rows], theirs.logprobs[rows], atol=atol)


@pytest.mark.parametrize("chunk, widths", [(2, (3, 6)), (4, (2, 4, 6)), (8, (6,))])
def test_prompts_prefilled_in_chunks_and_buckets_give_the_same(chunk, widths, monkeypatch):
    monkeypatch.setattr(prefilling, "bucket_widths", lambda width: widths)
    found, _ = engine(Decoding(NEW, 5, (EOS,), Sampler(1.0), prefill_rows=chunk))
    same(found, in_lockstep())


@pytest.mark.parametrize("growths, streamed", [(0, 8 * 2**20), (2, 0)])
def test_layers_taken_apart_and_a_growing_cache_give_the_same(growths, streamed, monkeypatch):
    """Whether the layers' weights are small, or many enough to be transposed."""
    monkeypatch.setattr(decoder, "_STREAMED", streamed)
    whole = dataclasses.replace(CONFIG, decode_apart=True)
    how = Decoding(NEW, 5, (EOS,), Sampler(1.0), growths=growths)
    found, _ = engine(how, Definition(lambda rngs: LanguageModel(whole, rngs)))
    same(found, in_lockstep())


def test_a_stacked_cache_grows_too_and_ends_before_it_is_whole():
    how = Decoding(NEW, 24, (EOS,), Sampler(1.0), growths=3, halvings=1)
    assert how.rings() == [2, 3, 6, NEW - 1] and how.sizes(1) == [24, 12]
    scanned = dataclasses.replace(CONFIG, decode_apart=False)
    found, occupancy = engine(how, Definition(lambda rngs: LanguageModel(scanned, rngs)))
    same(found, in_lockstep())
    assert occupancy.steps == found.response_length.max()


def test_rows_may_share_prompts_in_any_way_and_have_limits_of_their_own():
    """Rows with limit 0 are not sampled, and nothing of them shows."""
    theirs = in_lockstep()
    order = np.random.default_rng(0).permutation(24)
    limits = np.where(np.arange(24) < 15, np.random.default_rng(1).integers(1, NEW + 1, 24), 0)
    ids, prompt_of = IDS[order], (order // SAMPLES).astype(np.int32)

    @jax.jit
    def run(params):
        how = Decoding(NEW, 4, (EOS,), Sampler(1.0))
        return generate_in_slots(
            policy().bind(params), PROMPTS, LENGTHS, jax.random.key(7), ids, how, prompt_of=prompt_of, limits=limits
        )

    ours, occupancy = jax.device_get(run(policy_params()))
    lengths = np.minimum(theirs.response_length[order], limits)
    np.testing.assert_array_equal(ours.response_length, lengths)
    for i, row in enumerate(order):
        span = slice(WIDTH, WIDTH + lengths[i])
        np.testing.assert_array_equal(ours.tokens[i, span], theirs.tokens[row, span])
        assert ours.finished[i] == (
            theirs.finished[row] and lengths[i] == theirs.response_length[row] and limits[i] > 0
        )
    assert not ours.tokens[15:, WIDTH:].any() and not ours.finished[15:].any()
    assert occupancy.busy == occupancy.offered > 0
    assert occupancy.total >= lengths.sum()


def test_a_slot_is_never_idle_while_rows_wait():
    found, occupancy = engine(Decoding(NEW, 5, (EOS,), Sampler(1.0), halvings=0))
    assert occupancy.busy == occupancy.offered > 5
    assert occupancy.total == 5 * occupancy.steps
    # As many steps as a queue with five servers takes.
    free = [0] * 5
    for length in found.response_length:
        first = free.index(min(free))
        free[first] += length
    assert occupancy.steps == max(free)
    _, halved = engine(Decoding(NEW, 8, (EOS,), Sampler(1.0), halvings=3, fewest=1))
    assert halved.total < 8 * halved.steps


class EndsAt:
    """Stops a response after as many tokens as the bound says, by counting."""

    def __init__(self, bound: int):
        self.bound = bound

    def advance(self, state, tokens):
        return state + 1, state + 1 == self.bound


def test_an_automaton_ends_responses_and_starts_anew_with_each():
    theirs = in_lockstep()
    found, _ = engine(Decoding(NEW, 5, (EOS,), Sampler(1.0), stops=EndsAt(3)))
    np.testing.assert_array_equal(found.response_length, np.minimum(theirs.response_length, 3))
    assert found.finished.all()
    np.testing.assert_array_equal(found.tokens[:, WIDTH : WIDTH + 1], theirs.tokens[:, WIDTH : WIDTH + 1])


def test_several_ends_and_a_least_length():
    ends = (EOS, 7, 9)
    found, _ = engine(Decoding(NEW, 5, ends, Sampler(1.0, min_tokens=4)))
    theirs, ended = in_lockstep(), []
    assert (theirs.finished & (theirs.response_length <= 4)).any()  # where the first end alone is known, at any length
    for row in range(24):
        response = found.tokens[row, WIDTH : WIDTH + found.response_length[row]].tolist()
        assert not set(response[:4]) & set(ends)
        assert not set(response[:-1]) & set(ends)
        assert bool(found.finished[row]) == (response[-1] in ends)
        ended += response[-1:] if found.finished[row] else []
    assert set(ended) == set(ends) and found.response_length[found.finished].min() == 5


@pytest.mark.parametrize("dtype, bound", [("bfloat16", 0.03), ("int8", 0.08)])
@pytest.mark.parametrize("apart", [False, True])
def test_a_narrow_cache_is_near_the_full_one(dtype, bound, apart):
    config = dataclasses.replace(CONFIG, cache_dtype=jnp.dtype(dtype), decode_apart=apart)
    found, _ = engine(Decoding(NEW, 5, (EOS,), Sampler(1.0)), Definition(lambda rngs: LanguageModel(config, rngs)))
    wanted = learner_logprobs(policy_params(), found.tokens, found.positions, found.segments)
    mask = np.asarray(found.mask)[:, 1:]
    gap = np.abs(found.logprobs[:, 1:] - wanted)[mask]
    assert 1e-7 < gap.max() < bound
