"""The length signal against a loop over tokens."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from rewards.test_shaping_chain import B, T, responses

from stepjax.rewards.length import length_rewards


@functools.cache
def length(per: str, least: int, most: int):
    return jax.jit(lambda rows: length_rewards(rows, per=per, least=least, most=most, token_cost=0.5))


def cost(tokens: int, least: int, most: int, whole: bool) -> float:
    if most and tokens > most:
        return 0.5 * (tokens - most)
    return 0.5 * (least - tokens) if whole and tokens < least else 0.0


@pytest.mark.parametrize(("least", "most"), [(2, 3), (0, 1), (3, 0)])
@settings(max_examples=60, deadline=None, derandomize=True)
@given(responses())
def test_equals_a_loop_over_tokens(least, most, rows):
    mask = np.asarray(rows.mask)
    by_step, by_response = np.zeros((B, T)), np.zeros((B, T))
    for b in range(B):
        tokens = np.flatnonzero(mask[b])
        written = 0
        for t in tokens:
            written += 1
            if rows.steps.end[b, t]:
                by_step[b, t] = -cost(written, least, most, rows.finished[b] or t != tokens[-1])
                written = 0
        if len(tokens):
            by_response[b, tokens[-1]] = -cost(len(tokens), least, most, rows.finished[b])
    np.testing.assert_array_equal(length("step", least, most)(rows), by_step)
    np.testing.assert_array_equal(length("response", least, most)(rows), by_response)
