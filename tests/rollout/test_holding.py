"""Rows that are held when they end, and rows that begin behind them."""

import numpy as np
import pytest
from rollout.live import TEXTS, live, step_by_step
from rollout.test_engine import SAMPLES, in_lockstep
from rollout.test_program import WIDTH

IDS = list(range(8 * SAMPLES))
EACH = [TEXTS[i // SAMPLES] for i in IDS]


@pytest.mark.parametrize("sizes", [{}])
def test_step_by_step_draws_what_is_drawn_at_once(sizes):
    made, ready = live(**sizes)
    found, pieces, _ = step_by_step(made, ready, EACH, IDS)
    theirs = in_lockstep()
    assert max(pieces.values()) > 3
    for i, (tokens, logprobs) in enumerate(found):
        n = theirs.response_length[i]
        assert tokens == theirs.tokens[i, WIDTH : WIDTH + n].tolist()
        np.testing.assert_allclose(logprobs, theirs.logprobs[i, WIDTH : WIDTH + n], atol=1e-5)
