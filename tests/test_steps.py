"""Steps of token sequences, against a loop over bytes that is the definition written down."""

import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from step_cases import MAKERS, compiled, labels, reference, segment, words
from tokenizers import Tokenizer

from stepjax.errors import UserError
from stepjax.separators import separator_pattern
from stepjax.steps import Steps, StepSplitter, split_bytes

LENGTH, ROWS = 24, 3  # one shape, so that each splitter compiles once
FRAGMENTS = [
    "a",
    ".",
    "The",
    "\n",
    "\n\n",
    " ",
    "\t",
    ";",
    "a;b;c",
    "к",
    "и",
    " ки",
    "🙂",
    "</step>",
    "</",
    "Step",
    "\n\nStep",
    "\r\n",
    "\r\n\r\n",
    "\r",
]
CASES = [("byte-level", s) for s in ["\n\n", "\n", ";", " ки", "</step>", "\n\nStep", "a;a", "\r\n\r\n"]]
CASES += [("sentencepiece", s) for s in ["\n\n", ".\n", " ки", ";;", "\n;\n\n"]]


@pytest.mark.parametrize(("kind", "separator"), CASES)
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_split_follows_the_definition(kind: str, separator: str, data: st.DataObject):
    splitter, both, ids = compiled(kind, separator)
    size = len(splitter.token_bytes)
    rng = random.Random(data.draw(st.integers(0, 2**32)))
    tokens, mask = np.full((ROWS, LENGTH), -1, np.int32), np.zeros((ROWS, LENGTH), bool)
    for row in range(ROWS):
        text = "".join(data.draw(st.lists(st.sampled_from([*FRAGMENTS, separator]), max_size=12)))
        spelled = segment(text.encode(), ids, rng)
        for _ in range(rng.randrange(4)):  # tokens from anywhere, special ones and ids beyond the vocabulary
            spelled.insert(rng.randint(0, len(spelled)), rng.choice([rng.randrange(size), 0, 1, size, size + 99]))
        gap = rng.choice([0.0, 0.3])
        column = 0
        for token in spelled[:LENGTH]:
            if rng.random() < gap and column < LENGTH:  # what lies in a gap must not matter
                tokens[row, column] = rng.choice([rng.randrange(size), -1, size])
                column += 1
            if column < LENGTH:
                tokens[row, column], mask[row, column] = token, True
                column += 1
    steps, count, opens, pending = jax.device_get(both(tokens, mask))
    for row in range(ROWS):
        pieces = [splitter.token_bytes[t] if 0 <= t < size else b"" for t in tokens[row]]
        want = reference(pieces, mask[row].tolist(), separator.encode())
        got = {"index": steps.index, "end": steps.end, "opens": opens, "pending": pending}
        assert {name: value[row].tolist() for name, value in got.items()} == want, (pieces, mask[row])
        used = sorted({i for i in want["index"] if i >= 0})
        assert count[row] == len(used)
        live = mask[row]
        index, end = splitter.split_host(tokens[row][live].tolist())
        assert index.tolist() == steps.index[row][live].tolist() and end.tolist() == steps.end[row][live].tolist()


@pytest.mark.parametrize("separator", ["\n\n", " ", ";", " ки", "\n\nStep", "a;a", "\n \n", "\n\n\n", "\r\n", "\n\r"])
@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=14).map("".join))
def test_split_bytes_follows_the_definition(separator: str, text: str):
    data = text.encode()
    number, _ = labels(data, separator.encode())
    starts = [number.index(step) for step in range(max(number, default=-1) + 1)]
    assert split_bytes(data, separator.encode()) == list(
        zip(starts, [*starts[1:], len(data)][: len(starts)], strict=True)
    )


# Each token's text is spelled out; the numbers are worked out by hand.
EXAMPLES = [
    ("\n\n", ["A", ".\n\n", "B", "C"], [0, 0, 1, 1]),
    ("\n\n", ["A", ".", "\n\nB", "C"], [0, 0, 1, 1]),  # opened inside of the merged token
    ("\n\n", ["A", "\n", "\n", "B"], [0, 0, 0, 1]),
    ("\n\n", ["A", "\n", "B", "\n"], [0, 0, 0, 0]),
    ("\n\n", ["A", "\n", " \n", "B"], [0, 0, 0, 0]),  # a blank between: not the separator
    ("\n\n", ["A", "\n\n", "\n\n \t", "B"], [0, 0, 0, 1]),  # more white space is one boundary
    ("\n\n", ["\n\n", "\n", "A", "\n\n", "B"], [0, 0, 0, 0, 1]),  # nothing opens before the first step
    ("\n\n", ["A.\n\nB", "C", "\n\n", "D"], [0, 1, 1, 2]),
    ("\n\n", [" \n", "\n"], [0, 0]),
    (";", ["a;b;c", "d"], [0, 2]),  # step 1 has no token
    (";", [";", "a", ";;", "b"], [0, 1, 1, 3]),
    (" ки", ["a ", "к", "и", " b"], [0, 0, 0, 1]),
    ("</step>", ["a</", "step>", "\n", "b"], [0, 0, 0, 1]),
    ("\n\nStep", ["a\n", "\nStep", " 1", "b"], [0, 0, 1, 1]),
    ("\n\nStep", ["\n\n\nStep", " 1"], [0, 1]),
    ("a;a", ["a;a;a", "b"], [0, 1]),  # separators do not overlap
    ("aab", ["aaab", "b"], [0, 1]),
]


RETURNS = [
    ("\n\n", ["A", "\n\r", "\n", "B"], [0, 0, 0, 1]),
    ("\n\n", ["A", "\r\n", "\n", "B"], [0, 0, 0, 1]),
    ("\n\n", ["A", "\r", "\n", "\r", "\nB"], [0, 0, 0, 0, 1]),  # the second line end lies inside of a merged token
    ("\n\n", ["A\r\n\r\nB", "C", "\n\r\n", "D"], [0, 1, 1, 2]),
    ("\n\n", ["A", "\r\n", "B", "\r\n"], [0, 0, 0, 0]),
    ("\n\n", ["A", "\n", "\r", "\r\n", "B"], [0, 0, 0, 0, 0]),  # a carriage return of its own between: no separator
    ("\n\n", ["A", "\r", "\r", "B"], [0, 0, 0, 0]),
    ("\n\n", ["A", "\n", "\r", "B", "\n"], [0, 0, 0, 0, 0]),  # the return is no line end
    ("\r\n", ["A", "\n", "\n", "B"], [0, 0, 0, 0]),  # a separator with a carriage return is taken as it stands
    ("\r\n", ["A", "\r", "\n", "B"], [0, 0, 0, 1]),
]
"""Line ends of several systems, as `EXAMPLES`."""


def with_returns(text: str) -> str:
    return text.replace("\n", "\r\n")


ALL = [
    *EXAMPLES,
    *((separator, [with_returns(p) for p in pieces], i) for separator, pieces, i in EXAMPLES if "\n" in separator),
    *RETURNS,
]


@pytest.mark.parametrize(("separator", "pieces", "index"), ALL)
def test_worked_examples(separator: str, pieces: list[str], index: list[int]):
    contents = list(dict.fromkeys(piece for _, example, _ in ALL for piece in example))
    splitter = StepSplitter(words(*contents, *"\n\r киStep;a</>b"), separator)
    row = [contents.index(piece) for piece in pieces] + [0] * (5 - len(pieces))
    steps = splitter.split(jnp.array([row]), jnp.arange(5)[None] < len(pieces))
    assert steps.index[0].tolist() == index + [-1] * (5 - len(pieces))
    last = [t + 1 == len(index) or index[t] != index[t + 1] for t in range(len(index))]
    assert steps.end[0].tolist() == last + [False] * (5 - len(pieces))
    on_host = splitter.split_host(row[: len(pieces)])
    assert [x.tolist() for x in on_host] == [index, last]
    assert [x.dtype for x in on_host] == [np.int32, bool]
    text = "".join(pieces)
    assert "".join(splitter.texts(row[: len(pieces)])) == text[len(text) - len(text.lstrip()) :]


@pytest.mark.parametrize("text", ["A.\n\nB\n\n\nC", "\n\nA\n\n", "A\nB", ""])
def test_both_line_ends_give_the_same_steps_as_text_and_as_bytes(text: str):
    other = with_returns(text)
    pieces = [split_bytes(t.encode(), b"\n\n") for t in (text, other)]
    one, two = ([t[a:b].strip() for a, b in spans] for t, spans in zip((text, other), pieces, strict=True))
    assert [step.replace("\r", "") for step in two] == one
    assert [s.strip() for s in separator_pattern("\n\n").split(other) if s.strip()] == two
    assert separator_pattern("\r\n").split("a\nb\r\nc") == ["a\nb", "c"]  # taken as it stands


@pytest.mark.parametrize("kind", MAKERS)
def test_the_separators_end_is_found_as_tokens_come_one_by_one(kind: str):
    splitter, _, ids = compiled(kind, "\n\n")
    tokens = [ids[bytes([b])][0] for b in b"\r\n\r\na\r\n\r\n"]
    state, ends = splitter.initial(1), []
    for token in tokens:
        ends.append(bool(splitter.ends_step(state, jnp.array([token]))[0]))
        state, _ = splitter.advance(state, jnp.array([token]), jnp.ones(1, bool))
    assert ends == [False] * 8 + [True]


def test_character_split_over_tokens():
    splitter, _, ids = compiled("byte-level", " ки")
    tokens = [ids[bytes([byte])][0] for byte in "🙂 ки 🙂".encode()]
    steps = splitter.split(jnp.array([tokens]), jnp.ones((1, len(tokens)), bool))
    assert steps.index.tolist() == [[0] * 10 + [1] * 4]  # the space before the second face belongs to what it follows
    assert splitter.texts(tokens) == ["🙂 ки ", "🙂"]


def test_special_token_as_separator_keeps_its_bytes():
    tokenizer = MAKERS["byte-level"]()
    end, sep = tokenizer.token_to_id("<|end|>"), tokenizer.token_to_id("<|sep|>")
    a, newline = tokenizer.token_to_id("a"), tokenizer.token_to_id("Ċ")
    rows = jnp.array([[a, end, sep, newline, a, end], [a, sep, sep, a, sep, a]])
    mask = jnp.ones(rows.shape, bool)
    by_token = StepSplitter(tokenizer, "<|sep|>").split(rows, mask)
    assert by_token.index.tolist() == [[0, 0, 0, 0, 1, 1], [0, 0, 1, 2, 2, 3]]
    by_newline = StepSplitter(tokenizer, "\n").split(rows, mask)  # here the special token has no bytes
    assert by_newline.index.tolist() == [[0, 0, 0, 0, 1, 1], [0] * 6]


def test_a_skipped_index_is_not_counted():
    splitter = StepSplitter(words("a;b;c", "d"), ";")
    steps = splitter.split(jnp.array([[0, 1, 1, 0]]), jnp.array([[True, True, False, True]]))
    assert steps.index.tolist() == [[0, 2, -1, 2]]
    assert steps.end.tolist() == [[True, False, False, True]]
    assert steps.count.tolist() == [2]


def test_texts_are_numbered_like_the_index():
    splitter = StepSplitter(words("a;b;c", "d", "\n"), ";")
    tokens, mask = [2, 0, 1, 1, 0], [True, True, False, True, True]
    texts = splitter.texts(tokens, mask)
    assert texts == ["a;", "b;", "cda;", "b;", "c"]
    steps = splitter.split(jnp.array([tokens]), jnp.array([mask]))
    assert [texts[i] for i in steps.index[0].tolist() if i >= 0] == ["a;", "a;", "cda;", "cda;"]
    assert splitter.texts([2, 2]) == []


def test_an_empty_response_has_no_steps_on_the_host_either():
    index, end = StepSplitter(words("a", ";"), ";").split_host([])
    assert index.tolist() == end.tolist() == []


def test_rows_are_independent_of_what_is_masked_out():
    splitter, _, _ = compiled("byte-level", "\n\n")
    rng = np.random.default_rng(0)
    tokens, mask = rng.integers(0, 320, (ROWS, LENGTH)), rng.random((ROWS, LENGTH)) < 0.5
    mask[0] = False
    steps = splitter.split(jnp.array(tokens), jnp.array(mask))
    assert steps.index[0].tolist() == [-1] * LENGTH and not steps.end[0].any() and int(steps.count[0]) == 0
    for filler in (-1, 0, 10**6):
        other = splitter.split(jnp.where(mask, tokens, filler), jnp.array(mask))
        assert jax.tree.all(jax.tree.map(jnp.array_equal, steps, other))


def test_ids_outside_of_the_vocabulary_have_no_bytes():
    splitter = StepSplitter(words(";", "a"), ";")
    row, mask = jnp.array([[1, 99, -1, 2, -2, 0, -1, 2, 1]]), jnp.ones((1, 9), bool)
    assert splitter.split(row, mask).index.tolist() == [[0] * 8 + [1]]
    state, opens = splitter.initial(9), []
    for token in row[0]:
        state, opened = splitter.advance(state, jnp.full(9, token), jnp.ones(9, bool))
        opens.append(opened.tolist())
    assert opens == [[True] * 9, *[[False] * 9] * 7, [True] * 9]


@pytest.mark.parametrize("length", [0, 1])
def test_shortest_rows(length: int):
    splitter = StepSplitter(words("a", ";"), ";")
    steps = splitter.split(jnp.zeros((2, length), jnp.int32), jnp.ones((2, length), bool))
    assert steps.index.shape == steps.end.shape == (2, length)
    assert steps.count.tolist() == [length, length] and steps.index.dtype == jnp.int32


def test_calls_compile_once_and_stay_on_the_device():
    splitter = StepSplitter(words("a", ";"), ";")
    traces = []

    @jax.jit
    def split(tokens, mask):
        traces.append(1)
        return splitter.split(tokens, mask)

    rows = [jax.device_put(np.array([row], np.int32)) for row in ([0, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0])]
    mask = jax.device_put(np.ones((1, 4), bool))
    with jax.transfer_guard("disallow"):
        inside = [split(row, mask) for row in rows]
        outside = [splitter.split(row, mask) for row in rows]
    assert len(traces) == 1
    assert isinstance(inside[0], Steps)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, inside, outside))
    assert [steps.index[0].tolist() for steps in inside] == [[0, 0, 1, 1], [0, 1, 2, 3], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("tokenizer", "separator", "message"),
    [
        (words("a", "b"), ";", "spells it"),
        (words("a", "\n"), "\n\t", "spells it"),
        (words("a", "\r"), "\n\n", "spells it"),
        (words("a", "\r\n"), "\n\n", ""),  # no other line end in the vocabulary
        (words("\n"), "\n\n", "spells it"),  # white space alone never ends a step
        (words("a", "x\n\n"), "\n\n\n", None),  # "x\n\n" then nothing more: unreachable
        (words("ab"), "ba", ""),  # over two tokens
        (words("a", "x;y"), ";", ""),  # in the middle of a token
        (words("a"), "", "empty"),
        (words("a"), "a" * 513, "at most 512 bytes"),
    ],
)
def test_separator_that_the_tokenizer_cannot_write(tokenizer: Tokenizer, separator: str, message: str | None):
    if message == "":
        StepSplitter(tokenizer, separator)
    else:
        with pytest.raises(UserError, match=message or "spells it"):
            StepSplitter(tokenizer, separator)


def test_long_separators_and_tokens():
    separator = "=" * 300  # more states than a byte can number
    splitter = StepSplitter(words("=" * 299, "=", "a"), separator)
    steps = splitter.split(jnp.array([[2, 0, 2, 0, 1, 2]]), jnp.ones((1, 6), bool))
    assert steps.index.tolist() == [[0, 0, 0, 0, 0, 1]]
