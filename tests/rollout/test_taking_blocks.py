"""Which blocks are taken, given up and free, against sets of blocks in Python."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stepjax.models.blocks import work_list
from stepjax.models.cache import Cache, KeyValues
from stepjax.rollout.blocks import put_back, references, turn_ring
from stepjax.rollout.slots import Held, Prompts, Queue, Slots, retire

SLOTS, ROWS, PROMPTS, BLOCKS, PAGE, SHARED, MOST = 4, 9, 3, 14, 2, 2, 6


listed = jax.jit(functools.partial(work_list, page=PAGE))


@st.composite
def held_blocks(draw):
    """Rows that decode and rows that wait, on prompts with blocks of their own."""
    lengths = draw(st.lists(st.integers(1, PAGE * SHARED + PAGE), min_size=PROMPTS, max_size=PROMPTS))
    prompt_of = draw(st.lists(st.integers(0, PROMPTS - 1), min_size=ROWS, max_size=ROWS))
    order = draw(st.permutations(range(ROWS)))
    live = draw(st.lists(st.booleans(), min_size=SLOTS, max_size=SLOTS))
    waiting = draw(st.lists(st.booleans(), min_size=ROWS - SLOTS, max_size=ROWS - SLOTS))
    own = draw(st.lists(st.integers(0, 2), min_size=SLOTS, max_size=SLOTS))
    fresh = draw(st.lists(st.booleans(), min_size=SLOTS, max_size=SLOTS))
    names = list(draw(st.permutations(range(BLOCKS))))
    return lengths, prompt_of, list(order), live, waiting, own, fresh, names


def state(example):
    """The arrays of an example, and the blocks of each row that decodes."""
    lengths, prompt_of, order, live, waiting, own, fresh, names = example
    shared = [(n - 1) // PAGE for n in lengths]
    table = np.full((PROMPTS, SHARED), 2**31 - 1, np.int32)
    for prompt, count in enumerate(shared):
        table[prompt, :count] = [names.pop() for _ in range(count)]
    rows = [order[slot] if live[slot] else ROWS for slot in range(SLOTS)]
    held, count, time, mine = np.zeros((SLOTS, MOST), np.int32), [], [], []
    for slot in range(SLOTS):
        prompt = prompt_of[order[slot]]
        # Numbers behind a row's count, and those of empty slots, mean nothing.
        held[slot] = np.random.default_rng(slot).integers(0, BLOCKS, MOST)
        blocks = table[prompt, : shared[prompt]].tolist()
        blocks += [names.pop() for _ in range(min(own[slot], len(names)))] if live[slot] else []
        held[slot, : len(blocks)] = blocks
        count.append(len(blocks))
        alone = len(blocks) - shared[prompt]
        time.append(PAGE * alone + 1 if alone or not fresh[slot] else 0)
        mine.append(set(blocks))
    waits = np.zeros(ROWS, bool)
    waits[order[SLOTS:]] = waiting
    prompt_length = np.array([lengths[prompt_of[order[slot]]] for slot in range(SLOTS)])
    ints = [np.asarray(x, np.int32) for x in (count, [shared[prompt_of[order[s]]] for s in range(SLOTS)])]
    zeros = np.zeros(SLOTS, np.int32)
    work = listed(held, *ints, zeros, prompt_length.astype(np.int32))
    front = PAGE
    size = SLOTS, front + PAGE
    ring = KeyValues(np.zeros((SLOTS, 1, 1, size[1]), np.float32), np.ones((SLOTS, 1, size[1], 1), np.float32))
    cache = Cache((ring,), np.zeros(size, np.int32), np.ones(size, np.int32), np.int32(0))
    slots = Slots(
        np.asarray(rows, np.int32), zeros, zeros + 99, np.asarray(time, np.int32), prompt_length.astype(np.int32),
        zeros, waits, np.zeros((SLOTS, 1)), cache,
        Held(held, *ints, zeros, work, np.zeros(1, np.int32), PAGE),
    )  # fmt: skip
    chunk = KeyValues(np.zeros((1, PROMPTS, 1, 1, front)), np.zeros((1, PROMPTS, 1, front, 1)))
    whole = np.zeros((1, PROMPTS, front), np.int32)
    prompts = Prompts(np.zeros((1, PROMPTS, 1)), (chunk,), whole, whole, np.asarray([lengths], np.int32), table[None])
    queue = Queue(np.asarray(prompt_of, np.int32), np.arange(ROWS, dtype=np.int32), np.full(ROWS, 99, np.int32))
    of_prompt = [set(table[p, : shared[p]].tolist()) for p in range(PROMPTS)]
    return slots, prompts, queue, mine, of_prompt


@jax.jit
def turned(slots, prompts, queue):
    """The references before a turn of the ring, and what the turn leaves; blocks that nobody reads are NaN."""
    before = references(BLOCKS, slots, prompts, queue)
    filled = jnp.where((before > 0)[:, None, None, None], 0.0, jnp.nan)
    keys, values = (jnp.broadcast_to(filled, (BLOCKS, 1, *size)) for size in ((1, PAGE), (PAGE, 1)))
    return before, *turn_ring(slots, (KeyValues(keys, values),), prompts, queue, jnp.bool_(True), ample=True)


@settings(max_examples=20, deadline=None)
@given(held_blocks())
def test_a_turn_of_the_ring_gives_each_row_a_block_that_nobody_reads(example):
    """What nobody reads is NaN, and nothing of it is attended to; what is given is the ring."""
    slots, prompts, queue, mine, of_prompt = state(example)
    before, after, layers, usage = jax.device_get(turned(slots, prompts, queue))
    live, live_after = slots.row < ROWS, after.row < ROWS
    readers = np.zeros(BLOCKS, int)
    for slot in np.flatnonzero(live):
        for block in mine[slot]:
            readers[block] += 1
    for row in np.flatnonzero(slots.waiting):
        for block in of_prompt[queue.prompt[row]]:
            readers[block] += 1
    np.testing.assert_array_equal(before, readers)
    gone = set(slots.row[live].tolist()) - set(after.row[live_after].tolist())
    assert all(after.waiting[row] for row in gone)
    taken: set[int] = set()
    freed = {b for slot in np.flatnonzero(live & ~live_after) for b in mine[slot]}
    keys, values = layers[0].keys, layers[0].values
    for slot in np.flatnonzero(live_after):
        held = after.held.table[slot, : after.held.count[slot]].tolist()
        new = set(held) - mine[slot]
        assert len(new) == (slots.time[slot] > 0) and held[: len(mine[slot])] == held[: len(held) - len(new)]
        others = set().union(*(mine[s] for s in np.flatnonzero(live_after) if s != slot))
        assert not new & (taken | others) and not any(before[b] and b not in freed for b in new)
        taken |= new
        assert not np.isnan(keys[held]).any() and all((values[b] == 1).all() for b in new)
    waiting = {b for row in np.flatnonzero(after.waiting) for b in of_prompt[queue.prompt[row]]}
    assert not taken & waiting
    missing = int((live & (slots.time > 0)).sum()) - int((before == 0).sum())
    assert bool(gone) == (missing > 0)
    assert usage.restarted[0] == sum(t for row, t in zip(slots.row, slots.time, strict=True) if row in gone)
    assert not np.isnan(keys[after.held.work.block[: after.held.work.count[0]]]).any()


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.booleans(), st.integers(0, 3)), min_size=5, max_size=5), st.integers(0, 5)
)
def test_rows_with_the_fewest_tokens_go_back_and_no_more_than_needed(rows, free):
    time, needs, own = (np.array(x) for x in zip(*rows, strict=True))
    back = np.asarray(jax.jit(put_back)(time, needs, own, free))
    assert not (back & ~needs).any()
    assert (needs & ~back).sum() <= free + own[back].sum()
    order = [i for i in np.argsort(time, kind="stable") if needs[i]]
    gone = back.sum()
    assert back[order[:gone]].all()
    if gone:
        fewer = order[: gone - 1]
        assert needs.sum() - len(fewer) > free + own[fewer].sum()


def test_a_row_that_ends_is_no_longer_attended_to():
    example = [1, 3, 5], [0, 1, 2] * 3, list(range(ROWS)), [True] * 4, [False] * 5, [2, 1, 0, 2], [False] * 4
    slots, *_ = state((*example, list(range(BLOCKS))))
    ended = np.array([True, False, True, False])
    after = jax.device_get(jax.jit(retire)(slots, ended))
    rows = after.held.work.row[: after.held.work.count[0]].tolist()
    assert rows == [1] * slots.held.count[1] + [3] * slots.held.count[3] and len(rows) == 4
    assert after.row.tolist() == [ROWS, 1, ROWS, 3] and slots.held.work.count[0] == 8


def test_the_work_list_names_each_rows_blocks_in_order():
    table = np.array([[5, 6, 7], [1, 2, 3], [4, 8, 9]], np.int32)
    given = [np.array(x, np.int32) for x in (table, [2, 0, 3], [1, 0, 0], [1, 0, 3], [7, 2, 9])]
    work = jax.device_get(jax.jit(work_list, static_argnums=5)(*given, 4))
    assert work.count == [5] and work.row[:5].tolist() == [0, 0, 2, 2, 2] and (work.row[5:] == 3).all()
    assert work.block[:5].tolist() == [5, 6, 4, 8, 9]
    # A prompt's block begins at position 0; the first own one has its first token in its slot `start`.
    assert work.first[:5].tolist() == [0, 1, 3, 0, 0]
    assert work.position[:5].tolist() == [0, 7 - 1, 9 - 3, 9 - 3 + 4, 9 - 3 + 8]
    assert work.ends.tolist() == [2, 2, 5], "the places behind each row's blocks"
    assert dataclasses.asdict(work).keys() == {"row", "block", "first", "position", "count", "ends"}
