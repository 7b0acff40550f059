"""Answers of the tests' small decoder from live caches."""

import functools

import jax
import numpy as np
from models.tiny import policy, policy_params
from rollout.live import TEXTS, splitter
from rollout.test_program import EOS, NEW, WIDTH

from stepjax.parallel import make_mesh, replicated
from stepjax.rollout.sampling import Sampler
from stepjax.rollout.stops import StepEnds
from stepjax.search.ask import Asked, End, Expand
from stepjax.search.live import LiveAnswers
from stepjax.search.live_sizes import LiveSizes


@functools.cache
def ends():
    return StepEnds(splitter())


def answers(mesh=(1, 1, 1), rows=48, slots=4, block=4, cache_tokens=0, new_tokens=NEW):
    on = make_mesh(*mesh, devices=jax.devices()[: int(np.prod(mesh))])
    return LiveAnswers(
        policy(),
        on,
        jax.device_put(policy_params(), policy().shardings(on)),
        TEXTS,
        LiveSizes(WIDTH, new_tokens, slots, rows, block, cache_tokens),
        key=jax.device_put(jax.random.key(7), replicated(on)),
        ends=(EOS,),
        sampler=Sampler(1.0),
        steps=ends(),
    )


def to_ends(live, numbers, steps):
    """Of each problem, responses under these numbers: asked for step by step (or at once, with 0)."""
    found = {(p, n): ((), ()) for p in range(len(TEXTS)) for n in numbers}
    waiting, questions = dict.fromkeys(found), 0
    while waiting:
        lines = list(waiting)
        got = live([Asked(p, Expand(found[p, n][0], (n,), steps)) for p, n in lines])
        questions += len(lines)
        for line, (one,) in zip(lines, got, strict=True):
            found[line] = found[line][0] + one.tokens, found[line][1] + one.logprobs
            if one.end is not End.STEP:
                waiting.pop(line)
    return found, questions
