"""The rollout: its log-probs, its independence of batch and mesh, its ends."""

import dataclasses
import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
from models.tiny import CONFIG, policy, policy_params

from stepjax.parallel import batch_sharding, make_mesh, put, replicated
from stepjax.rollout.decoding import REDUCTIONS, Decoding
from stepjax.rollout.memory import CacheLayout
from stepjax.rollout.program import RolloutShape, default_halvings, nested_turns, rollout_program
from stepjax.rollout.sampling import Sampler
from stepjax.rollout.slots import Queue

EOS, WIDTH, NEW = 3, 6, 12
RNG = np.random.default_rng(0)
LENGTHS = RNG.integers(1, WIDTH + 1, 8).astype(np.int32)
PROMPTS = np.zeros((8, WIDTH), np.int32)
for _row, _n in enumerate(LENGTHS):
    PROMPTS[_row, WIDTH - _n :] = RNG.integers(4, CONFIG.vocab, _n)


@functools.cache
def program(rows: int, mesh_shape: tuple[int, int, int], temperature: float, gather: bool = True):
    mesh = make_mesh(*mesh_shape, devices=jax.devices()[: int(np.prod(mesh_shape))])
    shape = RolloutShape(rows, WIDTH, NEW)
    return rollout_program(policy(), mesh, shape, eos=EOS, sampler=Sampler(temperature), gather=gather)


def sample(rows, mesh_shape=(1, 1, 1), temperature=1.0, gather=True):
    made = program(len(rows), mesh_shape, temperature, gather)
    params = jax.device_put(policy_params(), policy().shardings(made.mesh))
    key = jax.device_put(jax.random.key(7), replicated(made.mesh))
    rows = np.asarray(rows)
    queue = Queue(np.arange(len(rows)), rows, np.full(len(rows), NEW))
    placed = put((PROMPTS[rows], LENGTHS[rows], as_int32(queue)), batch_sharding(made.mesh))
    return jax.device_get(made(params, placed[0], placed[1], key, placed[2])[0])


def as_int32(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.int32), tree)


@jax.jit
def learner_logprobs(params, tokens, positions, segments):
    model = policy().bind(params)
    logprobs = jax.nn.log_softmax(model.logits(model.trunk(tokens, positions, segments)))
    return jnp.take_along_axis(logprobs[:, :-1], tokens[:, 1:, None], -1)[..., 0]


def test_logprobs_are_those_of_the_full_pass():
    rows = sample(range(8))
    found = learner_logprobs(policy_params(), rows.tokens, rows.positions, rows.segments)
    mask = np.asarray(rows.mask)
    assert mask.sum() == rows.response_length.sum() > 8
    np.testing.assert_allclose(rows.logprobs[:, 1:][mask[:, 1:]], found[mask[:, 1:]], atol=1e-4)
    assert not rows.logprobs[~mask].any()


def test_a_response_ends_with_its_first_end_of_text_token():
    rows = sample(range(8))
    assert rows.finished.any() and not rows.finished.all()
    for i in range(8):
        response = rows.tokens[i, WIDTH : WIDTH + rows.response_length[i]].tolist()
        assert (EOS in response) == bool(rows.finished[i])
        assert EOS not in response[:-1]
        assert rows.finished[i] or len(response) == NEW
        assert not rows.tokens[i, WIDTH + rows.response_length[i] :].any()


def test_a_row_depends_neither_on_its_batch_nor_on_the_mesh():
    whole = sample(range(8))
    some = sample([5, 2, 7, 0])
    for at, row in enumerate([5, 2, 7, 0]):
        np.testing.assert_array_equal(some.tokens[at], whole.tokens[row])
    for mesh_shape in ((8, 1, 1), (1, 4, 2)):
        np.testing.assert_array_equal(sample(range(8), mesh_shape).tokens, whole.tokens)
    each_step = sample(range(8), (1, 4, 2), gather=False)
    np.testing.assert_array_equal(each_step.tokens, whole.tokens)
    np.testing.assert_allclose(each_step.logprobs, whole.logprobs, atol=1e-5)


def test_greedy_takes_the_likeliest_token():
    rows = sample(range(8), temperature=0.0)
    model = jax.jit(lambda p, t, q, s: policy().bind(p).logits(policy().bind(p).trunk(t, q, s)))
    logits = np.asarray(model(policy_params(), rows.tokens, rows.positions, rows.segments))
    mask = np.asarray(rows.mask)[:, 1:]
    np.testing.assert_array_equal(logits[:, :-1].argmax(-1)[mask], rows.tokens[:, 1:][mask])


def test_sampling_follows_the_distribution():
    logits = jnp.broadcast_to(jnp.array([0.0, 1.0, 2.0, -1.0]), (20_000, 4))
    keys = jax.vmap(jax.random.key)(jnp.arange(20_000))
    for temperature in (1.0, 0.5):
        tokens, logprobs = jax.jit(Sampler(temperature))(keys, logits)
        wanted = jax.nn.softmax(logits[0] / temperature)
        np.testing.assert_allclose(np.bincount(tokens, minlength=4) / 20_000, wanted, atol=0.012)
        np.testing.assert_allclose(logprobs, jnp.log(wanted)[tokens], rtol=1e-5, atol=1e-6)


def test_the_planned_steps_are_those_of_the_longest_responses():
    shape = RolloutShape(rows=64, prompt_width=32, new_tokens=384)
    for steps, turn in ((384, 256), (512, 256), (1, 1), (1000, 7)):
        decoding = SimpleNamespace(steps=lambda rows, n=steps: n, turn=lambda rows, n=turn: n, page=0, own_blocks=0)
        turns, each, _ = nested_turns(decoding, shape, 8)
        assert turns == -(-steps // turn) and steps <= turns * each < steps + turns


def test_slots_of_a_cpu_with_blocks_are_reduced_to_one():
    mesh, decoding = make_mesh(1, 1, 1, devices=jax.devices()[:1]), Decoding(64, 24, (0,), Sampler(1.0))
    blocks, ring = CacheLayout(page=8, blocks=99), CacheLayout.ring("cpu", 64)
    halvings = default_halvings(mesh, blocks)
    reduced = dataclasses.replace(decoding, halvings=halvings)
    assert reduced.sizes(1) == [24, 12, 4, 2, 1] and dataclasses.replace(reduced, slots=16).sizes(1) == [16, 8, 4, 2, 1]
    for slots in (9, 54, 55, 81, 128, 625, 4096):
        sizes = dataclasses.replace(reduced, slots=2 * slots).sizes(2)
        assert sizes[:2] == [2 * slots, 2 * -(-slots // 2)] and sizes[-1] == 2 and len(sizes) <= 1 + REDUCTIONS
        assert all(size % 2 == 0 for size in sizes) and sizes == sorted(set(sizes), reverse=True)
    assert dataclasses.replace(decoding, halvings=default_halvings(mesh, ring)).sizes(1) == [24, 12]
    assert dataclasses.replace(decoding, halvings=halvings, slots=8).sizes(1) == [8], "so few are not reduced"
