"""Rows that are held when they end, and rows that begin behind them."""

import functools
import re

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rollout.live import TEXTS, empty, lines, live, poisoned, step_by_step, to_end
from rollout.test_engine import SAMPLES, in_lockstep
from rollout.test_program import EOS, WIDTH

from stepjax.parallel import fetch
from stepjax.rollout.adding import Branch, Row
from stepjax.rollout.blocks import references
from stepjax.rollout.slots import Hold

slow = functools.partial(pytest.param, marks=pytest.mark.slow)
IDS = list(range(8 * SAMPLES))
EACH = [TEXTS[i // SAMPLES] for i in IDS]


def expected(i):
    """What row i draws in one go."""
    theirs, first = in_lockstep(), WIDTH
    n = theirs.response_length[i]
    return theirs.tokens[i, first : first + n].tolist(), theirs.logprobs[i, first : first + n]


def check(found, ids=IDS):
    for i, (tokens, logprobs) in zip(ids, found, strict=True):
        assert tokens == expected(i)[0], i
        np.testing.assert_allclose(logprobs, expected(i)[1], atol=1e-5)


@pytest.mark.parametrize(
    "sizes, how",
    [
        ({}, {}),
        ({}, {"every": 2, "steps": 3}),
        ({}, {"anew": True, "steps": 9}),
        ({}, {"poison": True, "steps": 1}),
        slow({"mesh": (2, 2, 2), "slots": 8, "block": 2}, {}),
        slow({"mesh": (8, 1, 1), "slots": 8, "rows": 64}, {}),
        slow({"block": 2, "cache_tokens": 76}, {"poison": True}),
        slow({"block": 0}, {"every": 2, "steps": 3}),
        slow({"block": 0, "mesh": (2, 2, 2), "slots": 8}, {}),
    ],
)
def test_step_by_step_draws_what_is_drawn_at_once(sizes, how):
    made, ready = live(**sizes)
    found, pieces, state = step_by_step(made, ready, EACH, IDS, **how)
    assert max(pieces) > (1 if "every" in how else 3)
    check(found)
    if "cache_tokens" in sizes:
        assert state.read.occupancy.drawn > sum(len(tokens) for tokens, _ in found)
    assert not state.read.held.any()
    if made.shape.block:
        assert state.read.room.tolist() == [made.decoding.blocks] * made.devices
    else:
        assert state.read.room is None and not made.decoding.page, "short rows are held whole"


def test_nothing_is_compiled_again():
    made, _ = live()
    for name in ("start", "turn", "add", "branch", "some_rows"):
        program = getattr(made.programs, name)
        assert program._compiled is program.compile() and program._jit._cache_size() == 0


@pytest.mark.slow
def test_no_step_copies_the_ring():
    """It is read for rows that are put aside, then written for those that take their slots: in this order."""
    made, _ = live(block=0)
    shapes = {x.shape for x in jax.tree.leaves(made.programs.turn.inputs[1].now.slots.cache.layers)}
    copied = re.findall(r" = \w+\[([\d,]+)\]\S* copy\(", made.programs.turn.compile().as_text())
    assert copied and not shapes & {tuple(map(int, dims.split(","))) for dims in copied}


def begun_rows(made, ready, texts, held):
    """A state with a row behind each text, one step long, and those that are held."""
    rows = [Row(i, text, IDS[SAMPLES * i], hold=Hold.STOPPED) for i, text in enumerate(texts)]
    state = to_end(made, ready, made.add(ready, empty(made, ready), rows))
    assert np.flatnonzero(state.read.held).tolist() == np.flatnonzero(state.read.by_stop).tolist()
    return state, np.flatnonzero(state.read.held)[:held].tolist()


def test_many_rows_begin_behind_one_which_may_be_gone_before_they_end():
    """Each draws what it draws where the same tokens are prefilled for it, log-probabilities included."""
    made, ready = live()
    state, (of, *_) = begun_rows(made, ready, TEXTS, 1)
    n, ids = int(state.read.length[of]), [100 + i for i in range(9)]
    before = [x[0, :n].tolist() for x in made.some_rows(state, [of])]
    branches = [Branch(10 + i, of, i_d, steps=0) for i, i_d in enumerate(ids)]
    state = made.turn(ready, made.add(ready, state, branches, release=[of]), 2)
    assert not state.read.held[of] and of in made.read_rows(state)
    with pytest.raises(ValueError, match=f"row {of}: others may yet begin behind what it was"):
        made.add(ready, state, [Row(of, TEXTS[0], 0)])
    state = poisoned(made, to_end(made, ready, poisoned(made, state), 1))
    rows = [Row(20 + i, TEXTS[of], i_d, 0, *before, steps=0) for i, i_d in enumerate(ids)]
    state = to_end(made, ready, made.add(ready, state, rows))
    ours, theirs = lines(made, state, range(10, 19)), lines(made, state, range(20, 29))
    assert len({tuple(tokens) for tokens, _ in ours}) > 5
    for (tokens, logprobs), (their_tokens, their_logprobs) in zip(ours, theirs, strict=True):
        assert tokens == their_tokens and tokens[:n] == before[0]
        np.testing.assert_allclose(logprobs, their_logprobs, atol=1e-5)
    whole = fetch(made.rows(state))
    np.testing.assert_array_equal(whole.tokens[10:19], whole.tokens[20:29])
    np.testing.assert_array_equal(whole.prompt_length[10:19], len(TEXTS[of]))


def test_a_step_a_response_and_a_cut_end_differently_and_a_row_goes_on_in_its_own_place():
    made, ready = live()
    rows = [Row(i, EACH[i], i, 3, steps=1, hold=Hold.ENDED if i % 2 else Hold.STOPPED) for i in IDS]
    state = to_end(made, ready, made.add(ready, empty(made, ready), rows))
    seen, found = state.read, lines(made, state, IDS)
    ended = np.array([tokens[-1] == EOS for tokens, _ in found])
    cut = ~ended & ~seen.by_stop[IDS]
    assert ended.any() and cut.any() and seen.by_stop.any() and not (ended & seen.by_stop[IDS]).any()
    np.testing.assert_array_equal(seen.finished[IDS], ended | seen.by_stop[IDS])
    assert all(len(found[i][0]) == 3 for i in np.flatnonzero(cut))
    np.testing.assert_array_equal(seen.held[IDS], seen.by_stop[IDS] | (np.array(IDS) % 2 == 1))
    on = [i for i in IDS if seen.held[i] and not ended[i]]
    state = made.add(ready, state, [Branch(i, i, i, steps=0) for i in on])
    check(lines(made, to_end(made, ready, state), on), on)


def test_a_prefix_is_held_without_drawing_anything():
    made, ready = live()
    tokens, logprobs = expected(4)
    rows = [
        Row(3, EACH[4], 0, draws=False),
        Row(9, EACH[4], 0, begun=tokens[:5], logprobs=logprobs[:5], draws=False),
    ]
    state = made.add(ready, empty(made, ready), rows)
    assert state.done and np.flatnonzero(state.read.held).tolist() == [3, 9] and state.read.length[9] == 5
    state = made.add(ready, state, [Branch(1, 3, 4, steps=0), Branch(2, 9, 4, steps=0)])
    check(lines(made, to_end(made, ready, state), [1, 2]), [4, 4])


def test_a_greedy_row_takes_the_likeliest_tokens():
    made, ready = live()
    rows = [Row(i, EACH[i], i, steps=0, greedy=i % 2 == 0) for i in IDS]
    found = lines(made, to_end(made, ready, made.add(ready, empty(made, ready), rows)), IDS)
    greedy = in_lockstep(0.0)
    for i in IDS[::2]:
        n = greedy.response_length[i]
        assert found[i][0] == greedy.tokens[i, WIDTH : WIDTH + n].tolist()
        np.testing.assert_allclose(found[i][1], greedy.logprobs[i, WIDTH : WIDTH + n], atol=1e-5)
    check(found[1::2], IDS[1::2])


def test_what_cannot_begin_is_refused():
    made, ready = live()
    state, (of, other) = begun_rows(made, ready, TEXTS, 2)
    free = next(row for row in range(30) if not state.read.held[row])
    cases = [
        ([Branch(30, 31, 0)], "row 31 is not held"),
        ([Branch(other, of, 0)], f"row {other} is held: release it first"),
        ([Row(of, [5], 0)], f"row {of} is held: release it first"),
        ([Branch(30, of, 0), Branch(30, of, 1)], "row 30 has not ended"),
        ([Branch(30, of, 0), Branch(of, of, 1)], f"row {of}: others may yet begin behind what it was"),
        ([Branch(of, of, 0), Branch(30, of, 1)], f"row {of} is not held"),
        ([Branch(free, of, 0, limit=1)], "a limit of 1 tokens, but it begins behind"),
    ]
    for rows, message in cases:
        with pytest.raises(ValueError, match=message):
            made.add(ready, state, rows)


@pytest.mark.slow
def test_a_row_begins_on_the_device_of_the_one_before_it():
    wide, on = live(mesh=(2, 2, 2), slots=8, block=2)
    state, (of, *_) = begun_rows(wide, on, TEXTS[:2], 1)
    with pytest.raises(ValueError, match="on another device"):
        wide.add(on, state, [Branch(47, of, 0)])


def counted(made, arrays):
    """How often each block is read, in plain loops; and the tokens up to each block's end, of each that reads it."""
    slots, prompts, queue = (jax.device_get(x) for x in (arrays.now.slots, arrays.prompts, arrays.queue))
    record, page, size = jax.device_get(arrays.now.record), made.decoding.page, prompts.positions.shape[1]
    count, before = np.zeros(made.decoding.blocks, int), [set() for _ in range(made.decoding.blocks)]

    def read(place, row=None):
        length = prompts.length[place // size, place % size]
        table = prompts.table[place // size, place % size][: (length - 1) // page]
        assert len(set(table.tolist())) == len(table)
        np.add.at(count, table, 1)
        if row is not None:
            text = jax.device_get(arrays.text[row])[WIDTH - arrays.text_length[row] :].tolist()
            text += record.tokens[row, : record.length[row]].tolist()
            for number, block in enumerate(table):
                before[block].add(tuple(text[: (number + 1) * page]))

    for row in range(len(slots.waiting)):
        if slots.holds[row]:
            read(prompts.first_of_rows(len(slots.waiting)) + row, row)
        if slots.waiting[row]:
            read(queue.prompt[row])
    for slot, row in enumerate(slots.row):
        if row < len(slots.waiting):
            np.add.at(count, slots.held.table[slot, : slots.held.count[slot]], 1)
    return count, before


OPS = st.tuples(st.sampled_from(["add", "branch", "branch", "release", "turn", "turn"]), st.integers(0, 10**6))


@settings(max_examples=6, deadline=None, derandomize=True)
@given(st.lists(OPS, min_size=8, max_size=24))
def test_blocks_are_counted_whatever_begins_ends_and_goes(ops):
    made, ready = live()
    state, ids = empty(made, ready), {}
    for kind, number in [*ops, ("turn", 99)]:
        held = np.flatnonzero(state.read.held).tolist()
        busy = made.read_rows(state) | set(held) | set(np.flatnonzero(state.open).tolist())
        free = [row for row in range(made.shape.rows) if row not in busy][:1]
        pick = held[number % len(held)] if held else None
        if kind == "add" and free:
            ids[free[0]] = i = number % len(IDS)
            state = made.add(ready, state, [Row(free[0], EACH[i], i, hold=Hold.STOPPED)])
        elif kind == "branch" and free and held:
            ids[free[0]] = ids[pick]
            gone = [pick] * (number % 3 == 0)
            state = made.add(ready, state, [Branch(free[0], pick, ids[pick], hold=Hold.STOPPED)], release=gone)
        elif kind == "release" and held:
            state = made.release(ready, state, [pick])
        elif kind == "turn":
            state = made.turn(ready, state, 1 + number % 9)
        arrays = state.arrays
        count, before = counted(made, arrays)
        found = references(made.decoding.blocks, arrays.now.slots, arrays.prompts, arrays.queue)
        np.testing.assert_array_equal(count, found)
        assert all(len(tokens) <= 1 for tokens in before)
        state = poisoned(made, state)
    ended = [row for row in state.finished().tolist() if row in ids]
    for row, (tokens, logprobs) in zip(ended, lines(made, state, ended), strict=True):
        theirs = expected(ids[row])
        assert tokens == theirs[0][: len(tokens)]
        np.testing.assert_allclose(logprobs, theirs[1][: len(tokens)], atol=1e-5)
