"""A cache of blocks: the same responses whatever the blocks, the slots, the mesh, and where blocks run out."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models.tiny import CONFIG, policy, policy_params
from rollout.test_engine import IDS, in_lockstep, same
from rollout.test_environment import rollout
from rollout.test_generate import EOS, LENGTHS, NEW, PROMPTS, learner_logprobs

import stepjax.rollout.decode_loop as decode_loop
from stepjax.models import Definition, LanguageModel
from stepjax.parallel import batch_sharding, make_mesh, put, replicated
from stepjax.plan.hlo_text import parse
from stepjax.rollout.blocks import references, turn_ring
from stepjax.rollout.decoding import Decoding
from stepjax.rollout.engine import generate_in_slots
from stepjax.rollout.sampling import Sampler


@functools.cache
def in_blocks(page, blocks=0, slots=5, shape=None, apart=True):
    """`blocks`: 0 for as many as any rows need."""
    mesh = None if shape is None else make_mesh(*shape, devices=jax.devices()[: int(np.prod(shape))])
    ample = not blocks
    config = dataclasses.replace(CONFIG, decode_apart=apart)
    definition = Definition(lambda rngs: LanguageModel(config, rngs))
    how = Decoding(NEW, slots, (EOS,), Sampler(1.0), halvings=2, fewest=1, page=page, blocks=blocks, ample=ample)
    if ample:
        how = dataclasses.replace(how, blocks=slots * how.own_blocks + 8 * ((PROMPTS.shape[1] - 1) // page))

    @jax.jit
    def run(params, prompts, lengths, key, ids):
        return generate_in_slots(definition.bind(params), prompts, lengths, key, ids, how, mesh=mesh)

    given = policy_params(), PROMPTS, LENGTHS, jax.random.key(7), IDS
    if mesh is None:
        return jax.device_get(run(*given))
    params = jax.device_put(given[0], definition.shardings(mesh))
    prompts, lengths, ids = put((PROMPTS, LENGTHS, IDS), batch_sharding(mesh))
    with jax.set_mesh(mesh):
        return jax.device_get(run(params, prompts, lengths, jax.device_put(given[3], replicated(mesh)), ids))


slow = functools.partial(pytest.param, marks=pytest.mark.slow)


@pytest.mark.parametrize("page, apart", [(1, True), (2, False), slow(8, True), slow(1, False), slow(4, True)])
def test_blocks_of_any_size_give_the_same(page, apart):
    found, used = in_blocks(page, apart=apart)
    same(found, in_lockstep())
    assert used.cache > 0 and used.restarted == 0


@pytest.mark.parametrize("slots, shape", [(8, (1, 4, 2)), slow(24, None), slow(8, (8, 1, 1))])
def test_neither_slots_nor_mesh_matter(slots, shape):
    found, _ = in_blocks(2, slots=slots, shape=shape)
    same(found, in_lockstep())


@pytest.mark.parametrize("page, blocks, shape", [(2, 24, None), slow(1, 44, None), slow(2, 14, (2, 1, 2))])
def test_rows_that_are_put_back_draw_the_same_again(page, blocks, shape):
    found, used = in_blocks(page, blocks, slots=8, shape=shape)
    same(found, in_lockstep())
    assert used.restarted > 0 and used.cache <= blocks * page * (1 if shape is None else shape[0])


def test_an_environment_writes_the_same_where_rows_are_put_back():
    """A row that is put back asks again, and has the same replies."""
    theirs, tool = rollout((1, 1, 1))

    @jax.jit
    def run(params):
        how = Decoding(NEW, 8, (EOS,), Sampler(1.0), tool, halvings=0, page=2, blocks=30, ample=False)
        ids = np.arange(8, dtype=np.int32)
        return generate_in_slots(policy().bind(params), PROMPTS, LENGTHS, jax.random.key(7), ids, how)

    ours, used = jax.device_get(run(policy_params()))
    assert theirs.env_tokens.sum() > 6 and used.restarted > 0
    same(ours, theirs)
    np.testing.assert_array_equal(ours.env_tokens, theirs.env_tokens)


def test_logprobs_are_those_of_the_learner():
    found, _ = in_blocks(2, 24, slots=8)
    wanted = learner_logprobs(policy_params(), found.tokens, found.positions, found.segments)
    mask = np.asarray(found.mask)[:, 1:]
    np.testing.assert_allclose(found.logprobs[:, 1:][mask], wanted[mask], atol=1e-4)


def test_nothing_of_a_free_block_is_read(monkeypatch):
    """Blocks that no row reads, or will, are filled with NaN at each turn of the ring."""

    def poisoned(slots, layers, prompts, queue, full, *, ample):
        slots, layers, usage = turn_ring(slots, layers, prompts, queue, full, ample=ample)
        blocks = len(layers[0].keys)
        read = references(blocks, slots.held, slots.live, prompts, queue, slots.waiting) > 0
        fill = functools.partial(jnp.where, read[:, None, None, None])
        return slots, jax.tree.map(lambda x: fill(x, jnp.nan), layers), usage

    monkeypatch.setattr(decode_loop, "turn_ring", poisoned)
    found, used = in_blocks.__wrapped__(2, 24, slots=8)
    same(found, in_lockstep())
    assert used.restarted > 0


@pytest.mark.parametrize("apart", [False, True])
def test_no_loop_copies_the_cache(apart):
    """Neither the blocks nor what lies before them: a step writes one column, a turn of the ring its own blocks."""
    definition = Definition(lambda rngs: LanguageModel(dataclasses.replace(CONFIG, decode_apart=apart), rngs))
    how = Decoding(64, 5, (EOS,), Sampler(1.0), halvings=0, page=8, blocks=77)

    def run(params, prompts, lengths, key, ids):
        return generate_in_slots(definition.bind(params), prompts, lengths, key, ids, how)

    given = definition.shapes, PROMPTS, LENGTHS, jax.random.key(7), IDS
    module = parse(jax.jit(run).lower(*given).compile().as_text())
    layers = 1 if apart else CONFIG.layers
    cache = {(77, 2, 8, 8), (5, 2, 8, 14), (5, 2, 14, 8)}
    whole = cache | {(layers, *dims) for dims in cache}
    copies = [
        (computation.name, i.name)
        for computation in module.computations.values()
        if computation.name != module.entry
        for i in computation.instructions.values()
        if i.opcode in ("copy", "transpose") and any(tuple(a.dims) in whole for a in i.arrays)
    ]
    assert not copies
