r"""Whether a response's final answer is right: `#### 42` as in GSM8K, `\boxed{\frac{1}{2}}` as in MATH.

The last mark of a response decides, whichever of the two it is, so that nobody can hedge; an answer without a mark is
no answer. Numbers are compared exactly. Other LaTeX is compared in one spelling and then, if math_verify is installed
(`pip install 'stepjax[math]'`), as mathematics.
"""

import re
from collections import deque
from functools import lru_cache
from typing import NamedTuple

from stepjax.tasks.latex import clean, exact_number
from stepjax.tasks.math_worker import equivalent

MOST_CHARACTERS = 300  # longer answers are compared as they stand
_MARK = re.compile(r"(?<!#)####(?!#)|\\(?:boxed|fbox)(?![a-zA-Z])")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_VARIABLE = r"\\?[a-zA-Z]{1,7}(?:_\{\w{1,3}\})?'?(?:\([a-zA-Z]\))?\s*"
_EQUATES = re.compile(r"=|\\in(?![a-zA-Z])")
_DEFINES = re.compile(rf"(?:^|(?<=,))\s*{_VARIABLE}(?:{_EQUATES.pattern})\s*")
_RELATION = re.compile(r"=|<|>|\\(?:leq?|geq?|neq?|approx|equiv|sim|simeq|cong|in|p?mod|bmod)(?![a-zA-Z])")
# What math_verify would take for something else: words for products of letters, a base for nothing, `2 3` for 2 + 3.
_NO_MATHS = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{4,}|[0-9]\s*_|[0-9]\s+[0-9]|\*\*|[0-9]\s*\^\s*\{\s*[0-9]+\s*\^")
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\{[bpv]?matrix\}")


class FinalAnswer(NamedTuple):
    """The text of a mark, and whether the mark is a box."""

    text: str
    boxed: bool


def grade(response: str, answer: str) -> bool:
    r"""Whether the response's final answer equals `answer`, which may be bare (`42`) or marked (`#### 42`).

    False where the response has no mark, an empty one or a box that is never closed. Bounded in time whatever the text.
    """
    given, expected = final_answer(response), final_answer(answer)
    if given is None:
        return False
    return same_answer(given.text, answer if expected is None else expected.text, boxed=given.boxed)


def final_answer(text: str) -> FinalAnswer | None:
    r"""What the last mark holds: after `####` the rest of the line, in `\boxed` or `\fbox` the braces' content."""
    last = next(iter(deque(_MARK.finditer(text), maxlen=1)), None)
    if last is None:
        return None
    if last[0] == "####":
        return FinalAnswer(text[last.end() :].split("\n", 1)[0].strip(), boxed=False)
    return FinalAnswer(_argument(text, last.end()), boxed=True)


def same_answer(given: str, expected: str, *, boxed: bool = False) -> bool:
    """Whether two final answers are the same number, the same text in one spelling, or equal as mathematics.

    Args:
      given: the answer to be judged.
      expected: the right one.
      boxed: whether `given` is LaTeX rather than plain text: an expression then counts for its value (2+3 for 5), and
        words without `\\text` count as part of the expression, not as a unit.
    """
    given, expected = given.strip(), expected.strip()
    if not given or not expected:
        return False
    if max(len(given), len(expected)) > MOST_CHARACTERS:
        return given == expected
    return _same(given, expected, boxed)


@lru_cache(maxsize=8192)  # samples of one problem repeat few answers
def _same(given: str, expected: str, boxed: bool) -> bool:
    given, expected = clean(given), clean(expected)
    if bool(_EQUATES.search(given)) != bool(_EQUATES.search(expected)):  # x = 5 is 5, but y = 5 is not x = 5
        given, expected = _DEFINES.sub("", given), _DEFINES.sub("", expected)
    if not given or not expected:
        return False
    number, wanted = exact_number(given, units=not boxed), exact_number(expected)
    if number is not None and wanted is not None:
        return number == wanted
    if _squeeze(given) == _squeeze(expected):
        return True
    if not boxed and wanted is not None:
        return False
    return _comparable(given, expected) and equivalent(given, expected)


def _squeeze(text: str) -> str:
    """The text without spaces, save between digits; words in lower case (Even, even); a choice without parentheses."""
    text = re.sub(r"(?<![0-9]) | (?![0-9])", "", text)
    text = re.sub(r"^\(([A-Z])\)$", r"\1", text)
    return text.lower() if text.isalpha() and len(text) > 1 else text


def _comparable(given: str, expected: str) -> bool:
    """Whether math_verify can be trusted with the question."""
    for text in (given, expected):
        if _NO_MATHS.search(_ENVIRONMENT.sub("", text)) or not _balanced(text):
            return False
    if not _RELATION.search(expected) and _RELATION.search(given):
        return False  # of 1 = 5 it would see the 5 alone
    # It would take the point (1, 2), the interval (1, 2) and the list 1, 2 for one another.
    return "," not in expected or (given[:1] in "([") == (expected[:1] in "([")


def _balanced(text: str, deepest: int = 10) -> bool:
    depth = 0
    for sign in text:
        depth += (sign in "({") - (sign in ")}")
        if depth > deepest:
            return False
    return text.count("{") == text.count("}")


def _argument(text: str, start: int) -> str:
    """A command's argument at `start`: a group in braces (empty where it is unclosed), else the rest of the formula."""
    rest = text[start:].lstrip()
    if not rest.startswith("{"):
        return re.split(r"[$\n]", rest, maxsplit=1)[0].strip()
    depth = 0
    for match in _BRACE.finditer(rest):
        depth += (match[0] == "{") - (match[0] == "}")
        if depth == 0:
            return rest[1 : match.start()].strip()
    return ""
