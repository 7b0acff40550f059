"""A cache of blocks: the same responses whatever the blocks, the slots, the mesh, and where blocks run out."""

import contextlib
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models.tiny import CONFIG, policy, policy_params
from rollout.test_engine import IDS, engine, in_lockstep, same
from rollout.test_environment import rollout
from rollout.test_program import EOS, LENGTHS, NEW, PROMPTS, learner_logprobs

import stepjax.rollout.local as local
from stepjax.models import Definition, LanguageModel, block, decoder
from stepjax.parallel import batch_sharding, make_mesh, put, replicated
from stepjax.plan.hlo_text import parse
from stepjax.rollout.blocks import references, turn_ring
from stepjax.rollout.decoding import Decoding
from stepjax.rollout.engine import generate_in_slots
from stepjax.rollout.sampling import Sampler

slow = functools.partial(pytest.param, marks=pytest.mark.slow)


@functools.cache
def in_blocks(page, blocks, slots, shape=None, apart=True, halvings=0):
    """The responses, the use of the slots, and the compiled program. `blocks`: 0 for as many as any rows need."""
    mesh = None if shape is None else make_mesh(*shape, devices=jax.devices()[: int(np.prod(shape))])
    ample = not blocks
    config = dataclasses.replace(CONFIG, decode_apart=apart)
    definition = Definition(lambda rngs: LanguageModel(config, rngs))
    how = Decoding(NEW, slots, (EOS,), Sampler(1.0), halvings=halvings, fewest=1, page=page, blocks=blocks, ample=ample)
    if ample:
        how = dataclasses.replace(how, blocks=slots * how.own_blocks + 8 * ((PROMPTS.shape[1] - 1) // page))

    def run(params, prompts, lengths, key, ids):
        return generate_in_slots(definition.bind(params), prompts, lengths, key, ids, how, mesh=mesh)

    given = policy_params(), PROMPTS, LENGTHS, jax.random.key(7), IDS
    if mesh is not None:
        params, key = jax.device_put(given[0], definition.shardings(mesh)), jax.device_put(given[3], replicated(mesh))
        prompts, lengths, ids = put((PROMPTS, LENGTHS, IDS), batch_sharding(mesh))
        given = params, prompts, lengths, key, ids
    with contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh):
        program = jax.jit(run).lower(*given).compile()
        return *jax.device_get(program(*given)), program


@functools.cache
def starved():
    """Too few blocks; those that no row reads, or will, are filled with NaN at each turn of the ring."""

    def poisoned(slots, layers, prompts, queue, full, *, ample, anew):
        slots, layers, usage = turn_ring(slots, layers, prompts, queue, full, ample=ample, anew=anew)
        blocks = len(layers[0].keys)
        read = references(blocks, slots, prompts, queue) > 0
        fill = functools.partial(jnp.where, read[:, None, None, None])
        return slots, jax.tree.map(lambda x: fill(x, jnp.nan), layers), usage

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "turn_ring", poisoned)
        return in_blocks.__wrapped__(2, 24, 8, halvings=1)


@pytest.mark.parametrize(
    "page, slots, shape, apart, halvings",
    [
        (2, 4, None, True, 0),
        (4, 16, (1, 4, 2), False, 0),
        slow(1, 5, None, True, 2),
        slow(8, 5, None, True, 2),
        slow(1, 16, None, False, 1),
        slow(2, 24, None, True, 2),
        slow(2, 8, (8, 1, 1), True, 2),
    ],
)
def test_neither_blocks_nor_slots_nor_the_mesh_matter(page, slots, shape, apart, halvings):
    found, used, _ = in_blocks(page, 0, slots, shape, apart, halvings)
    same(found, in_lockstep())
    assert used.cache > 0 and used.restarted == 0


def test_rows_that_are_put_back_draw_the_same_again_and_read_nothing_of_a_free_block():
    found, used, _ = starved()
    same(found, in_lockstep())
    assert used.restarted > 0 and used.cache <= 24 * 2


@pytest.mark.slow
@pytest.mark.parametrize("page, blocks, shape, halvings", [(2, 24, None, -1), (1, 44, None, 2), (2, 14, (2, 1, 2), 2)])
def test_rows_are_put_back_on_any_mesh_and_in_reduced_slots(page, blocks, shape, halvings):
    found, used, _ = in_blocks(page, blocks, 8, shape, halvings=halvings)
    same(found, in_lockstep())
    assert used.restarted > 0 and used.cache <= blocks * page * (1 if shape is None else shape[0])


@pytest.mark.slow
def test_the_last_rows_are_multiplied_one_at_a_time(monkeypatch):
    monkeypatch.setattr(decoder, "_STREAMED", 0)
    multiplied, alone, plain, product = [], [], block._matmul, jax.lax.dot_general
    monkeypatch.setattr(block, "_matmul", lambda x, w, t=False: multiplied.append((len(x), t)) or plain(x, w, t))
    monkeypatch.setattr(jax.lax, "dot_general", lambda a, b, *how: alone.append(b.ndim == 1) or product(a, b, *how))
    found, *_ = in_blocks.__wrapped__(2, 0, 24, halvings=-1)
    same(found, in_lockstep())
    assert {(12, True), (4, True), (2, True), (1, True)} <= set(multiplied) and any(alone)


def test_logprobs_are_those_of_the_learner():
    found, *_ = starved()
    wanted = learner_logprobs(policy_params(), found.tokens, found.positions, found.segments)
    mask = np.asarray(found.mask)[:, 1:]
    np.testing.assert_allclose(found.logprobs[:, 1:][mask], wanted[mask], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("apart", [True, False])
def test_int8_blocks_hold_what_an_int8_ring_does(apart):
    """Prompts and responses are rounded before they are stored: blocks change no token."""
    config = dataclasses.replace(CONFIG, cache_dtype=jnp.dtype("int8"), decode_apart=apart)
    definition = Definition(lambda rngs: LanguageModel(config, rngs))
    how = Decoding(NEW, 5, (EOS,), Sampler(1.0))
    theirs, _ = engine(how, definition)
    starving = dataclasses.replace(how, slots=8, page=2, blocks=24, ample=False)
    ours, used = engine(starving, definition)
    same(ours, theirs)
    assert used.restarted > 0
    assert np.abs(theirs.logprobs - in_lockstep().logprobs).max() > 1e-4


@pytest.mark.slow
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


@pytest.mark.parametrize("apart", [True, slow(False)])
def test_no_loop_copies_the_cache(apart):
    """Neither the blocks nor what lies before them: a step writes one column, a turn of the ring its own blocks."""
    *_, program = in_blocks(2, 0, 4, None, apart, 0)
    module, layers, blocks = parse(program.as_text()), 1 if apart else CONFIG.layers, 4 * 6 + 8 * 2
    cache = {(blocks, 2, 8, 2), (blocks, 2, 2, 8), (4, 2, 8, 4), (4, 2, 4, 8)}
    whole = cache | {(layers, *dims) for dims in cache}
    inside = [
        (computation.name, i)
        for computation in module.computations.values()
        if computation.name != module.entry
        for i in computation.instructions.values()
        if any(tuple(a.dims) in whole for a in i.arrays)
    ]
    assert len(inside) > 20
    assert not [(name, i.name) for name, i in inside if i.opcode in ("copy", "transpose")]
