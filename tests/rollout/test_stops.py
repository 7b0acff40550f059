"""Automata that end a response: held against plain search in the text."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepjax.errors import UserError
from stepjax.rollout.stops import StepEnds, StopStrings, states_behind
from stepjax.steps import StepSplitter, split_bytes

TOKENS = [b"", b"a", b"b", b"ab", b"ba", b"\n", b"\n\n", b".\n", b"\n\na", b"a\n\nb\n\n", b" ", b"bab"]


def first_hit(stops, tokens: list[int]) -> int | None:
    """The number of the token that ends the response."""
    state = jnp.zeros(1, jnp.int32)
    for i, token in enumerate(tokens):
        state, hit = stops.advance(state, jnp.array([token]))
        if hit[0]:
            return i
    return None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, len(TOKENS) - 1), max_size=8), st.sampled_from([["bab"], ["\n\n", "abb"], ["aa", "a"]]))
def test_a_stop_string_is_found_in_the_token_that_completes_it(tokens, texts):
    written, wanted = b"", None
    for i, token in enumerate(tokens):
        before, written = len(written), written + TOKENS[token]
        ends = [written.find(t.encode(), max(0, before - len(t) + 1)) + len(t) for t in texts if t.encode() in written]
        if any(end > before for end in ends):
            wanted = i
            break
    assert first_hit(StopStrings(TOKENS, texts), tokens) == wanted


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, len(TOKENS) - 1), max_size=8))
def test_a_step_ends_with_the_token_that_completes_its_separator(tokens):
    splitter = StepSplitter.of_bytes(TOKENS, "\n\n")
    wanted = None
    for i in range(len(tokens)):
        written = b"".join(TOKENS[t] for t in tokens[: i + 1])
        spans = split_bytes(written + b"x", b"\n\n")  # another byte would open the next step
        begun = bool(written.strip())
        if begun and len(spans) > 1:
            wanted = i
            break
    assert first_hit(StepEnds(splitter), tokens) == wanted


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, len(TOKENS) - 1), max_size=12))
def test_steps_end_one_by_one_where_the_state_goes_on(tokens):
    """A token ends a step where white space and separators so far would let one more step open than before it."""
    splitter = StepSplitter.of_bytes(TOKENS, "\n\n")
    stops, state, found = StepEnds(splitter), jnp.zeros(1, jnp.int32), []
    for token in tokens:
        state, hit = stops.advance(state, jnp.array([token]))
        found.append(bool(hit[0]))

    def complete(count):
        """Steps whose separators are complete: those that are closed where another byte comes."""
        written = b"".join(TOKENS[t] for t in tokens[:count])
        return len(split_bytes(written + b"x", b"\n\n")) - 1 if written.strip() else 0

    assert found == [complete(n + 1) > complete(n) for n in range(len(tokens))]
    known = states_behind(stops, jnp.array([[1, *tokens]]), jnp.array([len(tokens)]))
    assert known.tolist() == state.tolist()


def test_ids_without_bytes_change_nothing_and_empty_texts_are_refused():
    stops = StopStrings(TOKENS, ["ab"])
    state, hit = stops.advance(jnp.zeros(3, jnp.int32), jnp.array([1, 1, 1]))
    assert not hit.any()
    after, hit = stops.advance(state, jnp.array([len(TOKENS) + 3, -1, 2]))
    np.testing.assert_array_equal(after[:2], state[:2])
    assert hit.tolist() == [False, False, True]
    for texts in ([], ["a", ""]):
        with pytest.raises(UserError, match="stop strings"):
            StopStrings(TOKENS, texts)


def test_rows_do_not_mix():
    stops = StopStrings(TOKENS, ["bab"])
    rows = list(itertools.product(range(1, 5), repeat=3))
    state, found = jnp.zeros(len(rows), jnp.int32), np.zeros(len(rows), bool)
    for i in range(3):
        state, hit = stops.advance(state, jnp.array([row[i] for row in rows]))
        found |= np.asarray(hit)
    assert found.tolist() == [b"bab" in b"".join(TOKENS[t] for t in row) for row in rows]
