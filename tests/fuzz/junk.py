"""What nobody expects: values, texts and bytes that broke other programs."""

import json
from typing import Any

from hypothesis import strategies as st

ODD_TEXTS = (
    "",
    " ",
    "\n\n",
    "\r\n\r\n",
    "\x00",
    "\x1b[31m",
    "\ufeff",
    "\u2028",
    "\u202e",
    "é" * 40,
    "🙂" * 5,
    "NaN",
    "null",
    "True",
    "-0",
    "1e999",
    "9" * 400,
    "{",
    "}" * 30,
    "[" * 200,
    "(" * 200,
    "{{ 7 * 7 }}",
    "{% raw %}",
    "%s%n",
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "</style></pre><!--",
    "&amp;&#0;",
    "javascript:alert(1)",
    "../../etc/passwd",
    "$(touch x)",
    "'; DROP TABLE runs; --",
    "a" * 3000,
    "=" * 50,
    "\\" * 51,
    "<|im_end|>",
    "</s>",
    "<pad>",
    "<extra_0>",
    "ки",
    "Step 1: ",
    "#### ",
    "\\boxed{",
    "\\frac" * 50,
    "<<1=",
)

LONE = "\ud800 and \udfff"
"""Half pairs of surrogates: Python text that no file can hold."""

TEXT = st.sampled_from(ODD_TEXTS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
ANY_TEXT = TEXT | st.just(LONE) | st.text(max_size=20)
NUMBERS = st.sampled_from([0, -1, 1, 2, 2**31, 2**63, -(2**63) - 1, 10**400, 0.0, -0.0, 0.5, 1e-320, 1e308, -1e308])
SCALARS = st.none() | st.booleans() | st.integers() | NUMBERS | st.floats(allow_nan=False, allow_infinity=False) | TEXT
JSON: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | TEXT, inner, max_size=4),
    max_leaves=8,
)


def deep(levels: int, open_: str = "[", close: str = "]") -> str:
    """JSON nested this deep."""
    return open_ * levels + close * levels


@st.composite
def changed(draw: st.DrawFn, value: Any, junk: st.SearchStrategy[Any] = JSON) -> Any:
    """A JSON value like `value`, with one to three of its parts replaced, left out or added."""
    value = json.loads(json.dumps(value))
    for _ in range(draw(st.integers(1, 3))):
        value = draw(_once(value, junk))
    return value


@st.composite
def _once(draw: st.DrawFn, value: Any, junk: st.SearchStrategy[Any]) -> Any:
    if not isinstance(value, dict | list) or not value or draw(st.integers(0, 9)) == 0:
        return draw(junk)
    value = value.copy()
    key = draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
    action = draw(st.sampled_from(["inside", "inside", "inside", "replace", "replace", "drop", "add"]))
    if action == "drop":
        del value[key]
    elif action == "replace":
        value[key] = draw(junk)
    elif action == "inside":
        value[key] = draw(_once(value[key], junk))
    elif isinstance(value, dict):
        value[draw(TEXT)] = draw(junk)
    else:
        value.insert(key, draw(junk))
    return value


RAW = (
    b"\x00",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\r",
    b"\r\n",
    b"\n",
    b"\n\n",
    b'"',
    b"\\",
    b"\\ud800",
    b"\\u0000",
    b"{",
    b"}",
    b"]",
    b",",
    b":",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"9" * 5000,
    b"0" * 10,
    b"null",
    b"\xe2\x80",
    b"\xf0\x9f\x99",
    deep(3000).encode(),
    deep(100_000).encode(),
    b'{"a":' * 5000,
    b" " * 70_000,
)


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes like these: cut, with pieces replaced, repeated, left out or put in."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(content)))
        stop = min(len(content), start + draw(st.sampled_from([0, 0, 1, 2, 7, 60, 10**6])))
        old = content[start:stop]
        flipped = bytes(byte ^ 0x20 for byte in old)
        new = draw(st.sampled_from([b"", old * 2, flipped, *RAW]) | st.binary(max_size=12))
        content = content[:start] + new + content[stop:]
    return content


PIECES = (
    *("Step 1: ", "\n\n", "\n", "\r\n\r\n", " ", "\t", ";", "</step>", "ки", " ки\n", "#### 42", "####"),
    *("\\boxed{", "}", "{", "\\frac{1}{2}", "\\frac", "\\sqrt[3]{2}", "\\begin{pmatrix}", "\\end{pmatrix}"),
    *("\\text{no}", "\\left(", "\\%", "^{", "_{", "$", "$$", "\\(", "\\]", "&", "%", "x", "x^2", "=", "<"),
    *("\\le", "\\in", "\\infty", ",", "(", ")", "[", "1", "42", "1,234.5", "1e999", "9" * 60, "0.", ".5", "-"),
    *("+", "*", "/", "//", "**", "!", "9!!!", "10^{10^{10}}", "<<", ">>", "<<2+3=5>>", "<<1/0=1>>", "<<9*9="),
    *("<<(((1=1>>", "20%", "¾", "½", "²", "∞", "ℝ", "≤", "½½", "𝟒", "٤٢", "<script>alert(1)</script>"),
    *("<img src=x onerror=alert(1)>", "\"'>", "</textarea>", "<!--", "]]>", "&lt;", "{{", "%}", "<|im_start|>"),
    *("<|im_end|>", "<|endoftext|>", "</s>", "<s>", "<pad>", "<extra_0>", "<|eot_id|>", "[INST]", "ö", "é"),
    *('{"verdicts": ["good", "bad"]}', '"verdicts"', "```json\n", "```", "good, bad", "Verdicts: ", "</think>"),
    *("<think>", "\x00", "\x07", "\x1b[2J", "\u202e", "\u200b", "\ufeff", "\ufffd", "🙂", "e\u0301", "日本"),
    *("\u2028", "\x85", "\x0b", "a=7;", "b=a+5;", "?b!4", "answer: 4", "a", "word", "the answer is", "NaN"),
    *("None", "__import__('os')", "lambda: 0"),
)  # fmt: skip
"""Pieces of what models write, and of what may be mistaken for it."""


def _repeated(unit: str, count: int, tail: str) -> str:
    return unit * count + tail


MODEL_TEXT = (
    st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=12).map("".join)
    | ANY_TEXT
    | st.builds(_repeated, st.sampled_from(PIECES) | st.text(max_size=3), st.sampled_from([50, 300, 5000]), TEXT)
)
FILE_TEXT = MODEL_TEXT.map(lambda text: text.encode("utf-8", "replace").decode())
"""Model text without half pairs of surrogates."""
