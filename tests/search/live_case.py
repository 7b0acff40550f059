"""Answers of the tests' small decoder from live caches."""

import jax
import numpy as np
from models.tiny import policy, policy_params
from rollout.live import TEXTS, splitter
from rollout.test_program import EOS, NEW, WIDTH

from stepjax.parallel import make_mesh, replicated
from stepjax.rollout.sampling import Sampler
from stepjax.rollout.stops import StepEnds
from stepjax.search.ask import Asked, End, Expand, Forget
from stepjax.search.live import LiveAnswers
from stepjax.search.live_sizes import LiveSizes

NUMBERS = (0, 5)


def answers(mesh=(1, 1, 1), rows=48, slots=4, block=4, cache_tokens=0):
    on = make_mesh(*mesh, devices=jax.devices()[: int(np.prod(mesh))])
    return LiveAnswers(
        policy(),
        on,
        jax.device_put(policy_params(), policy().shardings(on)),
        TEXTS,
        LiveSizes(WIDTH, NEW, slots, rows, block, cache_tokens),
        key=jax.device_put(jax.random.key(7), replicated(on)),
        ends=(EOS,),
        sampler=Sampler(1.0),
        steps=StepEnds(splitter()),
    )


def line(problem, number, steps, forgets=True):
    """A search for one response, step by step."""
    tokens, logprobs, questions = (), (), 0
    while True:
        ((one,), *_) = yield [Asked(problem, Expand(tokens, (number,), steps))]
        if forgets:
            yield [Asked(problem, Forget((tokens,)))]
        tokens, logprobs, questions = tokens + one.tokens, logprobs + one.logprobs, questions + 1
        if one.end is not End.STEP:
            return (problem, number), (tokens, logprobs, one.end, questions)


def searches(steps, forgets=True, numbers=NUMBERS):
    return [line(problem, number, steps, forgets) for problem in range(len(TEXTS)) for number in numbers]
