"""Stops of a response besides its end-of-text token: stop strings, or the end of a step.

Both are automata over tokens that a decode loop carries along, one number a row: no text leaves the device.
"""

from collections.abc import Sequence
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from stepjax.errors import UserError
from stepjax.steps import StepSplitter


class Stops(Protocol):
    """An automaton over a response's tokens; its first state is 0."""

    def __hash__(self) -> int:
        """Programs are kept by it."""
        ...

    def advance(self, state: Int[Array, " B"], tokens: Int[Array, " B"]) -> tuple[Int[Array, " B"], Bool[Array, " B"]]:
        """The state after one more token per row, and whether the response ends with it."""
        ...


class StopStrings:
    """Ends a response with the token in which one of some texts is complete, be it in the middle of the token.

    The texts are looked for as bytes (all of them at once [Aho 1975]), so that it does not matter how they are cut
    into tokens.
    """

    def __init__(self, token_bytes: Sequence[bytes], texts: Sequence[str]):
        """`token_bytes`: the bytes of each token of the vocabulary. UserError where a text is empty."""
        if not texts or not all(texts):
            raise UserError("stop strings: give at least one character")
        states, complete = _byte_automaton([text.encode() for text in texts])
        count = len(states)
        state = np.repeat(np.arange(count, dtype=np.int32)[:, None], len(token_bytes), axis=1)
        hit = np.zeros(state.shape, bool)
        lengths = np.array([len(content) for content in token_bytes])
        for position in range(int(lengths.max(initial=0))):
            longer = np.flatnonzero(lengths > position)
            byte = np.array([token_bytes[i][position] for i in longer.tolist()])
            state[:, longer] = states[state[:, longer], byte]
            hit[:, longer] |= complete[state[:, longer]]
        self._next, self._hit = state, hit

    def advance(self, state: Int[Array, " B"], tokens: Int[Array, " B"]) -> tuple[Int[Array, " B"], Bool[Array, " B"]]:
        """The rows' states after one more token each, and which of them it ends."""
        known = (tokens >= 0) & (tokens < self._next.shape[1])  # a padded embedding row has no bytes
        tokens = jnp.where(known, tokens, 0)
        after, hit = jnp.asarray(self._next)[state, tokens], jnp.asarray(self._hit)[state, tokens]
        return jnp.where(known, after, state), known & hit


def _byte_automaton(texts: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """`(next_state int32[Q, 256], complete bool[Q])` over the prefixes of the texts; state 0 is the empty one."""
    prefixes = sorted({text[:n] for text in texts for n in range(len(text) + 1)}, key=lambda p: (len(p), p))
    number = {prefix: i for i, prefix in enumerate(prefixes)}
    following = np.zeros((len(prefixes), 256), np.int32)
    complete = np.array([any(prefix.endswith(text) for text in texts) for prefix in prefixes])
    for prefix, i in number.items():
        for byte in range(256):
            read = prefix + bytes([byte])
            while read not in number:
                read = read[1:]
            following[i, byte] = number[read]
    return following, complete


class StepEnds:
    """Ends a response with the token that completes its first step: the response has to begin where a step does."""

    def __init__(self, splitter: StepSplitter):
        self.splitter = splitter

    def advance(self, state: Int[Array, " B"], tokens: Int[Array, " B"]) -> tuple[Int[Array, " B"], Bool[Array, " B"]]:
        after, _ = self.splitter.advance(state, tokens, jnp.ones(tokens.shape, bool))
        return after, self.splitter.ends_step(state, tokens)


def states_behind(stops: Stops, tokens: Int[Array, "B T"], count: Int[Array, " B"]) -> Int[Array, " B"]:
    """The state behind the last `count` of each row's tokens, which are the first ones of a response."""
    width = tokens.shape[1]

    def one(state: Array, given: tuple[Array, Array]) -> tuple[Array, None]:
        token, number = given
        return jnp.where(number >= width - count, stops.advance(state, token)[0], state), None

    def behind(tokens: Array) -> Array:
        return jax.lax.scan(one, jnp.zeros_like(count), (tokens.T, jnp.arange(width)))[0]

    return jax.lax.cond(jnp.any(count > 0), behind, lambda tokens: jnp.zeros_like(count), tokens)
