"""A rollout whose rows may be held, of the tests' small decoder, and a vocabulary with steps."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from models.tiny import CONFIG, policy, policy_params
from rollout.test_program import EOS, LENGTHS, NEW, PROMPTS, WIDTH

from stepjax.models.cache import KeyValues
from stepjax.parallel import key_on, make_mesh, put
from stepjax.rollout.adding import Branch, Row
from stepjax.rollout.blocks import references
from stepjax.rollout.pausable import PausableRollout, Pause
from stepjax.rollout.program import RolloutShape
from stepjax.rollout.sampling import Sampler
from stepjax.rollout.slots import Hold
from stepjax.rollout.stops import StepEnds
from stepjax.steps import StepSplitter

TEXTS = [PROMPTS[i, WIDTH - n :].tolist() for i, n in enumerate(LENGTHS)]


@functools.cache
def splitter() -> StepSplitter:
    """Every other token is a letter; of the others some end a step, or end one inside the next, or are white space."""
    others = [b";", b"; ", b";x", b" ", b"a;", b"; b;", b";;", b"c"]
    contents = [b"d" if i % 2 else others[i // 2 % len(others)] for i in range(CONFIG.vocab)]
    contents[:4] = [b""] * 4
    return StepSplitter.of_bytes(contents, ";")


@functools.cache
def live(mesh=(1, 1, 1), rows=48, slots=4, block=4, cache_tokens=0, samples=2, new_tokens=NEW, stops=True):
    on = make_mesh(*mesh, devices=jax.devices()[: int(np.prod(mesh))])
    shape = RolloutShape(
        rows,
        WIDTH,
        new_tokens,
        samples=samples,
        slots=slots,
        prefill_rows=8,
        block=block,
        cache_tokens=cache_tokens,
        resumed=True,
        holds=True,
    )
    ends = StepEnds(splitter()) if stops else None
    made = PausableRollout(policy(), on, shape, eos=EOS, sampler=Sampler(1.0), stops=ends)
    return made, made.prepare(put(jax.device_get(policy_params()), policy().shardings(on)))


def empty(made: PausableRollout, ready) -> Pause:
    return made.empty(ready, key_on(made.mesh, 7))


def to_end(made, ready, state, steps=5):
    while not state.done:
        state = made.turn(ready, state, steps)
    return state


def lines(made, state, rows):
    """Tokens and log-probabilities of rows that ended."""
    rows = list(rows)
    tokens, logprobs = made.some_rows(state, rows)
    count = np.asarray(state.read.length)[rows]
    return [(t[:n].tolist(), p[:n].tolist()) for t, p, n in zip(tokens, logprobs, count, strict=True)]


def poisoned(made, state):
    """With NaN in all blocks that nobody reads; of one device."""
    arrays = state.arrays
    used = references(made.decoding.blocks, arrays.now.slots, arrays.prompts, arrays.queue) > 0
    axis = int(isinstance(arrays.now.layers, KeyValues))

    def each(x):
        return jnp.where(used.reshape(-1, *(1,) * (x.ndim - 1 - axis)), x, jnp.nan)

    layers = jax.tree.map(each, arrays.now.layers)
    return dataclasses.replace(
        state, arrays=dataclasses.replace(arrays, now=dataclasses.replace(arrays.now, layers=layers))
    )


def step_by_step(made: PausableRollout, ready, texts, ids, steps=5, every=1, anew=False, poison=False):
    """Each response one step after the other, in whatever rows are free: tokens and log-probabilities, and its rows.

    `every`: complete steps a row; `anew`: each goes on by being prefilled, not behind the row that is held; `poison`:
    blocks that nobody reads hold NaN.
    """
    state, each = empty(made, ready), made.shape.rows // made.devices
    page = made.decoding.page or made.shape.entry_width + 1  # without blocks none is ever needed
    waiting, found, owner, pieces = [(i, -1) for i in range(len(texts))], {}, {}, [0] * len(texts)
    while waiting or owner:
        more, later, gone = [], [], []
        for at, (i, of) in enumerate(waiting):
            least = 0 if owner else made.shape.entry_width // page
            if of >= 0 and made.room(state)[of // each] < least:  # it is prefilled again
                state, waiting[at] = made.release(ready, state, [of]), (i, -1)
        busy = made.read_rows(state) | set(np.flatnonzero(state.read.held).tolist()) | set(owner)
        room = made.room(state)
        for i, of in waiting:
            device = i * made.devices // len(texts) if of < 0 else of // each
            free = [row for row in range(device * each, (device + 1) * each) if row not in busy]
            text = len(texts[i]) + len(found.get(i, ((), ()))[0])
            need = (text - 1) // page if of < 0 or anew else 0
            if not free or room[device] < need:
                later.append((i, of))
                continue
            busy.add(free[0])
            owner[free[0]] = i
            asked = {"steps": every, "hold": Hold.STOPPED}
            if of < 0 or anew:
                more.append(Row(free[0], texts[i], ids[i], 0, *found.get(i, ((), ())), **asked))
                room[device] -= need
            else:
                more.append(Branch(free[0], of, ids[i], **asked))
            gone += [of] * (of >= 0)
        assert more or owner
        state, waiting = made.add(ready, state, more, release=gone), later
        state = made.turn(ready, poisoned(made, state) if poison else state, steps)
        ended = [row for row in state.finished().tolist() if row in owner]
        for row, line in zip(ended, lines(made, state, ended), strict=True):
            i = owner.pop(row)
            found[i] = line
            pieces[i] += 1
            if state.read.by_stop[row] and len(line[0]) < made.shape.new_tokens:
                waiting.append((i, row if state.read.held[row] else -1))
    return [found[i] for i in range(len(texts))], pieces, state
