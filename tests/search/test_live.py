"""Answers from live caches: the same continuations whatever is held, and their cost."""

import functools

import numpy as np
import pytest
from search.live_case import answers, to_ends

NUMBERS = (0, 5)


@functools.cache
def at_once():
    live = answers()
    return to_ends(live, NUMBERS, 0)[0], live.cost


def test_step_by_step_is_at_once():
    theirs, _ = at_once()
    live = answers()
    found, questions = to_ends(live, NUMBERS, 1)
    assert questions > 3 * len(found)
    for line, (tokens, logprobs) in found.items():
        assert tokens == theirs[line][0]
        np.testing.assert_allclose(logprobs, theirs[line][1], atol=1e-5)
    print(live.cost, live.shared)
