"""A rollout whose rows may be held, of the tests' small decoder, and a vocabulary with steps."""

import functools

import jax
import numpy as np
from models.tiny import CONFIG, policy, policy_params
from rollout.test_program import EOS, LENGTHS, NEW, PROMPTS, WIDTH

from stepjax.parallel import make_mesh, replicated
from stepjax.rollout.adding import Branch, Row
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
    return made, made.prepare(jax.device_put(policy_params(), policy().shardings(on)))


def empty(made: PausableRollout, ready) -> Pause:
    return made.empty(ready, jax.device_put(jax.random.key(7), replicated(made.mesh)))


def to_end(made, ready, state, steps=5):
    while not state.done:
        state = made.turn(ready, state, steps)
    return state


def step_by_step(made: PausableRollout, ready, texts, ids, steps=5, every=1, anew=False):
    """Each response one step after the other, in whatever rows are free: its ids, log-probabilities and why it ended.

    `every`: complete steps a row; `anew`: each goes on by being prefilled, not behind the row that is held.
    """
    state, each = empty(made, ready), made.shape.rows // made.devices
    waiting = [(i, -1) for i in range(len(texts))]
    found, owner, pieces = {}, {}, {i: 0 for i in range(len(texts))}
    while waiting or owner:
        held, more, later = set(np.flatnonzero(state.read.held).tolist()), [], []
        for i, of in waiting:
            device = i * made.devices // len(texts)
            free = [
                row
                for row in range(device * each, (device + 1) * each)
                if row not in owner and row not in held and row not in made.read_rows(state)
            ]
            if not free:
                later.append((i, of))
                continue
            row = free[0]
            owner[row] = i
            if of < 0 or anew:
                begun, logprobs = found.get(i, ([], []))
                more.append(Row(row, texts[i], ids[i], 0, begun, logprobs, steps=every, hold=Hold.STOPPED))
            else:
                more.append(Branch(row, of, ids[i], steps=every, hold=Hold.STOPPED))
        state, waiting = made.add(ready, state, more), later
        state = made.release(ready, state, [of for _, of in _began(more)])
        state = made.turn(ready, state, steps)
        ended = [row for row in state.finished().tolist() if row in owner]
        tokens, logprobs = made.some_rows(state, ended) if ended else ([], [])
        for row, t, p in zip(ended, tokens, logprobs, strict=True):
            i, n = owner.pop(row), int(state.read.length[row])
            found[i] = t[:n].tolist(), p[:n].tolist()
            pieces[i] += 1
            if state.read.by_stop[row] and n < made.shape.new_tokens:
                waiting.append((i, row))
    return [found[i] for i in range(len(texts))], pieces, state


def _began(more):
    return [(row.row, row.of) for row in more if isinstance(row, Branch)]
