"""Where the steps of a response begin: the separator compiled to a byte automaton over the vocabulary.

A boundary is a separator and the white space after it; the first other byte after it opens the next step. A line
feed of the separator may be `\\r\\n` in the response (`stepjax.separators`). The automaton reads bytes and its states
are, in this order,

  before the first step (0 is the start) │ inside of a step, k bytes of the separator matched │ pending (the last)

where *pending* means: a separator is complete and only white space has followed. A token is a map from states to states
(and a number of steps that it opens), so the state before every token of a response comes out of a parallel scan over
compositions of maps: no loop over time and no text on the host.
"""

import bisect
import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from stepjax.errors import UserError
from stepjax.separators import matcher, separator_bytes
from stepjax.token_bytes import backend_of, special_contents, token_bytes

LONGEST_SEPARATOR = 512
"""Bytes; the tables have a row for each of them and a column for each token."""

_WHITE = np.array([bytes([byte]).isspace() for byte in range(256)])
_NOT_WHITE = re.compile(rb"[^ \t\n\r\v\f]")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Steps:
    """Which step each token belongs to.

    Attributes:
      index: the step's number from 0, −1 where masked out. Never decreases along the masked tokens, and skips a number
        where a step has no token of its own (it began and ended inside of a token of an earlier step).
      end: True on the last masked token of each index that has tokens.
    """

    index: Int[Array, "B T"]
    end: Bool[Array, "B T"]

    @property
    def count(self) -> Int[Array, " B"]:
        """The number of steps that have tokens."""
        return jnp.sum(self.end, axis=-1, dtype=jnp.int32)

    def only(self, mask: Bool[Array, "B T"]) -> "Steps":
        """The same steps on fewer tokens: a step ends at the last of its tokens that stays, if any does."""
        return _with_ends(jnp.where(mask, self.index, -1), mask & (self.index >= 0))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Tables:
    """What each of V tokens does in each of Q states: the state after it, and the steps that it opens."""

    next_state: Int[Array | np.ndarray, "Q V"]
    opens_first: Bool[Array | np.ndarray, "Q V"]  # does the token's first non-white-space byte open a step?
    opens_total: Int[Array | np.ndarray, "Q V"]  # steps that open anywhere in the token


def _byte_automaton(separator: bytes) -> tuple[np.ndarray, np.ndarray, int]:
    """`(next_state int32[Q, 256], opens bool[Q, 256], inside)`: the states listed above, and the first one inside."""
    match, matched = matcher(separator)
    # White space before the first step can begin a separator such as "\n\nStep", but never be a whole boundary.
    lead = 0 if separator.isspace() else len(separator) - len(separator.lstrip())
    kept = [0] if separator.isspace() else [state for state, k in enumerate(matched) if k <= lead]
    place = np.zeros(len(matched) + 1, np.int32)  # of a matcher's state among those before the first step
    place[kept] = np.arange(len(kept))
    inside, pending = len(kept), len(kept) + len(matched)
    before = np.where(_WHITE, place[match[kept]], inside + match[kept])
    after = np.where(_WHITE, pending, inside + match[:1])
    next_state = np.concatenate([before, inside + match, after]).astype(np.int32)
    opens = np.zeros(next_state.shape, bool)
    opens[:inside] = opens[pending] = ~_WHITE
    return next_state, opens, inside


def _token_tables(contents: Sequence[bytes], separator: bytes) -> tuple[_Tables, int, bool]:
    """The automaton run over every token from every state, its first state inside of a step, and whether any sequence
    of tokens completes a separator."""
    byte_next, byte_opens, inside = _byte_automaton(separator)
    states, pending = len(byte_next), len(byte_next) - 1
    lengths = np.array([len(content) for content in contents], np.int64)
    order = np.argsort(-lengths, kind="stable")  # longest first: the tokens that have a byte p are the first `alive`
    flat = np.frombuffer(b"".join(contents), np.uint8)
    begins = (np.cumsum(lengths) - lengths)[order]
    state = np.repeat(np.arange(states, dtype=np.int32)[:, None], len(contents), axis=1)
    first, completes = np.zeros(state.shape, bool), np.zeros(state.shape, bool)
    total, blank = np.zeros(state.shape, np.int32), np.ones(len(contents), bool)
    for position in range(lengths.max(initial=0)):
        alive = np.count_nonzero(lengths > position)
        byte, old = flat[begins[:alive] + position], state[:, :alive]
        new, opened = byte_next[old, byte], byte_opens[old, byte]
        first[:, :alive] |= opened & blank[:alive]
        total[:, :alive] += opened
        completes[:, :alive] |= new == pending
        blank[:alive] &= _WHITE[byte]
        state[:, :alive] = new
    edges = np.stack([np.bincount(row, minlength=states) > 0 for row in state])
    reached = np.arange(states) == 0
    for _ in range(states):  # no path is longer
        reached |= edges[reached].any(axis=0)
    inverse = np.argsort(order)
    total = total.astype(np.min_scalar_type(total.max(initial=0)))
    state = state.astype(np.min_scalar_type(pending))
    tables = _Tables(next_state=state[:, inverse], opens_first=first[:, inverse], opens_total=total[:, inverse])
    return tables, inside, bool(completes[reached].any())


def _compose(first: Int[Array, "Q ..."], second: Int[Array, "Q ..."]) -> Int[Array, "Q ..."]:
    """The map `second[first]`, as a sum over states: Q is small, and selects run faster than gathers."""
    states = jnp.arange(len(first), dtype=first.dtype).reshape(-1, *[1] * first.ndim)
    return jnp.sum(jnp.where(first == states, second[:, None], 0), axis=0, dtype=first.dtype)


def _live(tables: _Tables, tokens: Array, mask: Array) -> tuple[Array, Array]:
    """The tokens that have bytes, and ids that are safe to look up (0 for the others)."""
    live = mask & (tokens >= 0) & (tokens < tables.next_state.shape[1])
    return live, jnp.where(live, tokens, 0)


@jax.jit
def _split(tables: _Tables, tokens: Int[Array, "B T"], mask: Bool[Array, "B T"]) -> Steps:
    live, tokens = _live(tables, tokens, mask)
    identity = jnp.arange(len(tables.next_state), dtype=jnp.int32)[:, None, None]
    maps = jnp.where(live, tables.next_state[:, tokens].astype(jnp.int32), identity)
    after = jax.lax.associative_scan(_compose, maps, axis=-1)[0]  # from the start state
    state = jnp.pad(after, ((0, 0), (1, 0)))[:, :-1]  # before the token
    # The compiler for TPUs crashes where it fuses this scan with the sum below (libtpu 0.0.52, 128 tokens a row).
    state, live, tokens = jax.lax.optimization_barrier((state, live, tokens))
    total = jnp.where(live, tables.opens_total[state, tokens].astype(jnp.int32), 0)
    opened = jnp.cumsum(total, axis=-1) - total + (live & tables.opens_first[state, tokens])
    return _with_ends(jnp.where(mask, jnp.maximum(opened - 1, 0), -1), mask)


def _with_ends(index: Int[Array, "B T"], mask: Bool[Array, "B T"]) -> Steps:
    """Marks the last masked token of each index."""
    none = jnp.iinfo(jnp.int32).max
    following = jax.lax.cummin(jnp.where(mask, index, none), axis=1, reverse=True)
    following = jnp.pad(following, ((0, 0), (0, 1)), constant_values=none)[:, 1:]
    return Steps(index=index, end=mask & (index != following))


@jax.jit
def _advance(tables: _Tables, state: Array, tokens: Array, mask: Array) -> tuple[Array, Array]:
    live, tokens = _live(tables, tokens, mask)
    after = jnp.where(live, tables.next_state[state, tokens].astype(state.dtype), state)
    return after, live & tables.opens_first[state, tokens]


class StepSplitter:
    """Finds the steps of sampled token ids, on the device, without decoding them.

    White space is the six ASCII white-space bytes. A token belongs to the step of its first non-white-space byte; one
    without any (white space, end of text) to the step of the last such byte before it, step 0 at the start. A separator
    may hold other bytes (`";"`, `"</step>"`); they belong to the step that they end. Each of its line feeds may be
    `\\r\\n` in the response, unless the separator spells a carriage return itself. A special token whose content is in
    the separator counts as text; the others have no bytes, and neither have added tokens that end a response.

    The tables live on the default device. A splitter is captured by a jitted function like any other constant.
    """

    def __init__(self, tokenizer: Any, separator: str = "\n\n", ends: Sequence[int] = ()):
        """Compiles the separator; `ends` are the ids that end a response.

        UserError where the separator is empty, or where no sequence of tokens spells it.
        """
        if not separator:
            raise UserError("step separator: it is empty; give at least one character, such as '\\n\\n'")
        contents = token_bytes(tokenizer, frozenset(t for t in special_contents(tokenizer) if t in separator))
        added = backend_of(tokenizer).get_added_tokens_decoder() if ends else {}
        for i in ends:
            if i in added and added[i].content not in separator:
                contents[i] = b""
        self._compile(contents, separator)

    @classmethod
    def of_bytes(cls, contents: Sequence[bytes], separator: str) -> "StepSplitter":
        """A splitter of a vocabulary given by the bytes of each token, without a tokenizer."""
        splitter = cls.__new__(cls)
        splitter._compile(list(contents), separator)
        return splitter

    def _compile(self, contents: list[bytes], separator: str) -> None:
        if len(separator.encode()) > LONGEST_SEPARATOR:
            raise UserError(f"step separator {separator[:40]!r}…: it may have at most {LONGEST_SEPARATOR} bytes")
        self.separator, self.token_bytes = separator, contents
        tables, self._inside, spelled = _token_tables(self.token_bytes, separator.encode())
        if not spelled:
            raise UserError(
                f"step separator {separator!r}: no sequence of the tokenizer's tokens spells it; "
                "choose another separator or tokenizer"
            )
        self._host_tables = tables
        self._tables: _Tables = jax.device_put(tables)

    def split(self, tokens: Int[Array, "B T"], mask: Bool[Array, "B T"]) -> Steps:
        """The step of each token where `mask` is True; the others are skipped.

        Any id may stand where `mask` is False. An id outside of the vocabulary where it is True has no bytes.
        """
        chex.assert_rank([tokens, mask], 2)
        chex.assert_equal_shape([tokens, mask])
        return _split(self._tables, tokens, mask)

    def initial(self, batch: int) -> Int[Array, " B"]:
        """The state of `batch` empty responses, for `advance`."""
        return jnp.zeros(batch, jnp.int32)

    def advance(
        self, state: Int[Array, " B"], tokens: Int[Array, " B"], mask: Bool[Array, " B"]
    ) -> tuple[Int[Array, " B"], Bool[Array, " B"]]:
        """Reads one token per row: the state after it, and whether its first non-white-space byte opens a step.

        Rows where `mask` is False keep their state and open nothing.
        """
        chex.assert_rank([state, tokens, mask], 1)
        chex.assert_equal_shape([state, tokens, mask])
        return _advance(self._tables, state, tokens, mask)

    def pending(self, state: Int[Array, " B"]) -> Bool[Array, " B"]:
        """True where a separator has ended a step and no byte of the next one has come."""
        return state == len(self._tables.next_state) - 1

    def ends_step(self, state: Int[Array, " B"], tokens: Int[Array, " B"]) -> Bool[Array, " B"]:
        """Whether a token, read in `state`, completes the separator behind a step that has begun.

        The separator's last byte may be followed by others of the same token, the next step's even. Where `state` is
        behind a separator, the next step has not begun: neither its first byte nor white space before it ends one.
        """
        live, tokens = _live(self._tables, tokens, jnp.ones(tokens.shape, bool))
        opens = self._tables.opens_total[state, tokens].astype(jnp.int32)
        begun = opens + ((state >= self._inside) & ~self.pending(state))  # steps that have, once it is read
        complete = self.pending(self._tables.next_state[state, tokens])
        return live & ((begun > 1) | (complete & (begun > 0)))

    def split_host(self, tokens: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """`split` of one response on the host: index int32[n] and end bool[n] of its tokens, without the device."""
        contents = [self.token_bytes[t] if 0 <= t < len(self.token_bytes) else b"" for t in tokens]
        starts = [start for start, _ in split_bytes(b"".join(contents), self.separator.encode())]
        index, at, current = np.zeros(len(tokens), np.int32), 0, 0
        for i, content in enumerate(contents):
            first = _first_non_white(content)
            if first is not None:
                index[i] = bisect.bisect_right(starts, at + first) - 1
                current = bisect.bisect_right(starts, at + len(content) - 1) - 1  # of its last such byte
            else:
                index[i] = current
            at += len(content)
        end = np.ones(len(tokens), bool)
        end[:-1] = index[1:] != index[:-1]
        return index, end

    def texts(self, tokens: Sequence[int], mask: Sequence[bool] | None = None) -> list[str]:
        """The text of each step of one response, on the host: `texts[i]` is that of index `i`.

        Bytes that are not UTF-8 show as U+FFFD. A response of white space alone has no text, though its tokens have
        index 0.
        """
        kept = [int(t) for t, m in zip(tokens, [True] * len(tokens) if mask is None else mask, strict=True) if m]
        data = b"".join(self.token_bytes[t] for t in kept if 0 <= t < len(self.token_bytes))
        spans = split_bytes(data, self.separator.encode())
        return [data[start:stop].decode(errors="replace") for start, stop in spans]


def _first_non_white(content: bytes) -> int | None:
    found = _NOT_WHITE.search(content)
    return found.start() if found else None


def split_bytes(data: bytes, separator: bytes) -> list[tuple[int, int]]:
    """Byte offsets `(start, stop)` of the steps: from the first byte of one to the first byte of the next."""
    spans: list[tuple[int, int]] = []
    pattern = separator_bytes(separator)
    first = _NOT_WHITE.search(data)
    # A separator of white space is no boundary before the first step; one such as "\n\nStep" may begin there.
    origin = first.start() if first and separator.isspace() else 0
    while first:
        found = pattern.search(data, origin)
        start = first.start()
        first = _NOT_WHITE.search(data, found.end()) if found else None
        origin = first.start() if first else len(data)
        spans.append((start, origin))
    return spans
