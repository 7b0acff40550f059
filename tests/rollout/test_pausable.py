"""A rollout in turns: the same responses whatever the turns, and rows that are added between them."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from models.tiny import policy, policy_params
from rollout.test_engine import FIELDS, IDS, SAMPLES, in_lockstep, same
from rollout.test_program import EOS, LENGTHS, NEW, PROMPTS, WIDTH

from stepjax.errors import UserError
from stepjax.parallel import fetch, key_on, make_mesh, put
from stepjax.rollout.adding import Row
from stepjax.rollout.pausable import PausableRollout
from stepjax.rollout.program import RolloutShape
from stepjax.rollout.sampling import Sampler
from stepjax.rollout.slots import Queue

slow = functools.partial(pytest.param, marks=pytest.mark.slow)
ROWS = len(IDS)


@functools.cache
def rollout(mesh=(1, 1, 1), slots=5, block=0, cache_tokens=0, resumed=False, samples=SAMPLES):
    on = make_mesh(*mesh, devices=jax.devices()[: int(np.prod(mesh))])
    shape = RolloutShape(
        ROWS, WIDTH, NEW, samples=samples, slots=slots, block=block, cache_tokens=cache_tokens, resumed=resumed
    )
    made = PausableRollout(policy(), on, shape, eos=EOS, sampler=Sampler(1.0))
    return made, made.prepare(put(jax.device_get(policy_params()), policy().shardings(on)))


def request(made: PausableRollout, rows, begun=None):
    """The first `rows` rows, each with a prompt of its own or those of a device sharing theirs."""
    width, each = made.shape.entry_width, ROWS // made.devices
    tokens = np.zeros((made.devices * made.places, width), np.int32)
    length, prompt_of = np.zeros(len(tokens), np.int32), np.zeros(ROWS, np.int32)
    places: dict[tuple[int, int], int] = {}
    for row in range(ROWS):
        device, prompt = row // each, row // SAMPLES
        count = 0 if begun is None else int(begun[row])
        name = (device, prompt if begun is None else 100 + row)
        if name not in places:
            places[name] = sum(d == device for d, _ in places)
            at = device * made.places + places[name]
            text = [*PROMPTS[prompt, WIDTH - LENGTHS[prompt] :], *in_lockstep().tokens[row, WIDTH : WIDTH + count]]
            tokens[at, width - len(text) :], length[at] = text, len(text)
        prompt_of[row] = places[name]
    limits = np.where(np.arange(ROWS) < rows, NEW, 0).astype(np.int32)
    start = None if begun is None else np.asarray(begun, np.int32)
    return tokens, length, Queue(prompt_of, IDS, limits, None, start)  # type: ignore[arg-type]


def key(made: PausableRollout):
    return key_on(made.mesh, 7)


@functools.cache
def in_turns(steps: int, **sizes):
    made, ready = rollout(**sizes)
    tokens, length, queue = request(made, ROWS)
    state, turns = made.start(ready, tokens, length, key(made), queue), 0
    while not state.done:
        state, turns = made.turn(ready, state, steps), turns + 1
    return fetch(made.rows(state)), turns, state.read.occupancy


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        pytest.param({"mesh": (2, 2, 2), "slots": 16, "block": 2, "cache_tokens": 22}, marks=pytest.mark.slow),
        slow({"mesh": (8, 1, 1), "slots": 8}),
        slow({"block": 4}),
        slow({"block": 2, "cache_tokens": 48, "slots": 8}),
    ],
)
def test_turns_of_any_length_give_the_same_bits(sizes):
    whole, once, used = in_turns(1000, **sizes)
    assert once == 1
    same(whole, in_lockstep())
    for steps in (1, 5):
        found, turns, used_too = in_turns(steps, **sizes)
        assert turns == -(-int(used.steps) // steps)
        jax.tree.map(np.testing.assert_array_equal, found, whole)
        for name in ("busy", "offered", "steps", "total", "restarted"):
            assert getattr(used_too, name) == getattr(used, name), name
    if "cache_tokens" in sizes:
        assert used.restarted > 0


def test_nothing_is_compiled_again():
    made, _ = rollout()
    in_turns(1), in_turns(5)
    assert made.programs.turn._compiled is made.programs.turn.compile()
    assert made.programs.start._jit._cache_size() == 0  # all calls go to the program that was compiled ahead


@functools.cache
def added(steps: int, **sizes):
    """Half of the rows from the start, the others one by one as places and rows are free, each with its own number."""
    made, ready = rollout(**sizes, samples=1)
    each = ROWS // made.devices
    tokens, length, queue = request(made, ROWS)
    first = np.arange(ROWS) % each < each // 2
    queue = dataclasses.replace(queue, limit=np.where(first, NEW, 0).astype(np.int32))
    state, waiting, found = made.start(ready, tokens, length, key(made), queue), np.flatnonzero(~first).tolist(), {}
    at = dict(zip(np.flatnonzero(first).tolist(), np.flatnonzero(first).tolist(), strict=True))
    while waiting or not state.done:
        if not state.done:
            state = made.turn(ready, state, steps)
        rows = fetch(made.rows(state))
        ended = [row for row in state.finished().tolist() if row in at]
        found |= {at.pop(row): jax.tree.map(lambda x, row=row: x[row], rows) for row in ended}
        more = []
        for row in ended[: len(waiting)]:
            at[row] = own = waiting.pop()
            prompt = PROMPTS[own // SAMPLES, WIDTH - LENGTHS[own // SAMPLES] :]
            more.append(Row(row, prompt.tolist(), int(IDS[own])))
        state = made.add(ready, state, more)
    return jax.tree.map(lambda *x: np.stack(x), *(found[row] for row in range(ROWS))), state.read.occupancy


@pytest.mark.parametrize(
    "sizes",
    [
        {"slots": 4},
        pytest.param({"mesh": (2, 2, 2), "slots": 16, "block": 2, "cache_tokens": 38}, marks=pytest.mark.slow),
        slow({"mesh": (4, 1, 2), "slots": 8}),
        slow({"block": 2, "cache_tokens": 112, "slots": 8}),
    ],
)
def test_rows_that_are_added_between_turns_draw_what_they_draw_from_the_start(sizes):
    found, _ = added(3, **sizes)
    same(found, in_lockstep())


BEGUN = np.random.default_rng(3).integers(0, NEW, ROWS)


def resumed(steps: int, **sizes):
    """Every row goes on behind some of its tokens; rows that ended in them are not sampled."""
    made, ready = rollout(**sizes, resumed=True)
    theirs = in_lockstep()
    begun = np.minimum(BEGUN, theirs.response_length)
    tokens, length, queue = request(made, ROWS, begun)
    done, record = begun == theirs.response_length, made.no_record()
    queue = dataclasses.replace(queue, limit=np.where(done, 0, NEW).astype(np.int32))
    for row in range(ROWS):
        record.tokens[row, : begun[row]] = theirs.tokens[row, WIDTH : WIDTH + begun[row]]
        record.logprobs[row, : begun[row]] = -100.0 - row  # those of whoever drew them, which are kept
    record.length[done], record.finished[done] = begun[done], theirs.finished[done]
    state = made.start(ready, tokens, length, key(made), queue, record)
    while not state.done:
        state = made.turn(ready, state, steps)
    return fetch(made.rows(state)), begun, state.read.occupancy


@pytest.mark.parametrize(
    "sizes",
    [
        {"slots": 4},
        pytest.param({"mesh": (2, 2, 2), "slots": 8, "block": 2, "cache_tokens": 80}, marks=pytest.mark.slow),
        slow({"mesh": (8, 1, 1), "slots": 8}),
        slow({"block": 4, "cache_tokens": 200}),
        slow({"block": 2, "cache_tokens": 150, "slots": 8}),
    ],
)
def test_a_response_goes_on_behind_its_first_tokens_as_if_it_had_never_stopped(sizes):
    found, begun, _ = resumed(4, **sizes)
    theirs = in_lockstep()
    assert (begun == theirs.response_length).any() and (begun == 0).any() and begun.max() > 8
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(found, field), getattr(theirs, field), err_msg=field)
    for row in range(ROWS):
        first, last = WIDTH + begun[row], WIDTH + theirs.response_length[row]
        assert (found.logprobs[row, WIDTH:first] == -100 - row).all()
        np.testing.assert_allclose(found.logprobs[row, first:last], theirs.logprobs[row, first:last], atol=1e-5)


def test_rows_so_far_are_the_first_tokens_of_the_whole_ones():
    made, ready = rollout(slots=4)
    tokens, length, queue = request(made, ROWS)
    state = made.turn(ready, made.start(ready, tokens, length, key(made), queue), 3)
    found, theirs = fetch(made.rows(state)), in_lockstep()
    assert state.read.decoding == 4 and (found.response_length == 3).sum() >= 1
    for row, count in enumerate(found.response_length):
        np.testing.assert_array_equal(found.tokens[row, : WIDTH + count], theirs.tokens[row, : WIDTH + count])
        assert not found.tokens[row, WIDTH + count :].any()
        assert found.finished[row] == (theirs.finished[row] and count == theirs.response_length[row])


def test_what_cannot_be_added_is_refused():
    made, ready = rollout(slots=4)
    tokens, length, queue = request(made, ROWS)
    state = made.start(ready, tokens, length, key(made), queue)
    with pytest.raises(ValueError, match="row 2 has not ended"):
        made.add(ready, state, [Row(2, [5], 2)])
    state = made.turn(ready, state, 1000)
    with pytest.raises(ValueError, match="only where the shape is resumed"):
        made.add(ready, state, [Row(2, [5], 2, begun=[6])])
    made, ready = rollout(block=2, cache_tokens=44, resumed=True)
    tokens, length, queue = request(made, ROWS, np.full(ROWS, NEW - 1))
    with pytest.raises(UserError, match=r"^config.ppo.cache_tokens: 44 tokens"):
        made.start(ready, tokens, length, key(made), queue)
