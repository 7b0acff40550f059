r"""Whether a response's final answer is right: `#### 42` as in GSM8K, `\boxed{\frac{1}{2}}` as in MATH.

The last mark of a response decides, whichever of the two it is, so that a response cannot hedge; without a mark there
is no answer. Numbers are compared exactly. Other LaTeX is compared in one spelling and then, if math_verify is
installed (`pip install 'stepjax[math]'`), as mathematics.
"""

import re
from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from stepjax.answers.latex import clean, exact_number
from stepjax.answers.math_worker import equivalent_many

MOST_CHARACTERS = 300  # longer answers are compared as text
MOST_COMPARED = 256
MOST_KNOWN = 100_000
_MARK = re.compile(r"(?<!#)####(?!#)|\\(?:boxed|fbox)(?![a-zA-Z])")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_VARIABLE = r"\\?[a-zA-Z]{1,7}(?:_\{\w{1,3}\})?'?(?:\([a-zA-Z]\))?\s*"
_EQUATES = re.compile(r"=|\\in(?![a-zA-Z])")
_DEFINES = re.compile(rf"(?:^|(?<=,))\s*{_VARIABLE}(?:{_EQUATES.pattern})\s*")
_RELATION = re.compile(r"=|<|>|\\(?:leq?|geq?|neq?|approx|equiv|sim|simeq|cong|in|p?mod|bmod)(?![a-zA-Z])")
# What math_verify would take for something else: words for products of letters, a base for nothing, `2 3` for 2 + 3.
_NO_MATHS = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{4,}|[0-9]\s*_|[0-9]\s+[0-9]|\*\*|[0-9]\s*\^\s*\{\s*[0-9]+\s*\^")
# An expression still to be evaluated is no answer and may take forever; `9!!!` and `1000!` are numbers of that kind.
_UNEVALUATED = re.compile(r"\\(?:int|iint|oint|sum|prod|lim)(?![a-zA-Z])|!\s*!|[0-9]{3,}\s*\}*\s*!")
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
    r"""The content of the last mark: after `####` the rest of the line, in `\boxed` or `\fbox` the braces' content."""
    last = next(iter(deque(_MARK.finditer(text), maxlen=1)), None)
    if last is None:
        return None
    if last[0] == "####":
        return FinalAnswer(text[last.end() :].split("\n", 1)[0].strip(), boxed=False)
    return FinalAnswer(_argument(text, last.end()), boxed=True)


def same_answer(given: str, expected: str, *, boxed: bool = False) -> bool:
    """Whether two final answers are the same number, the same text in one spelling, or equal as mathematics.

    Args:
      given: the answer to compare.
      expected: the right one.
      boxed: whether `given` is LaTeX rather than plain text: an expression then counts for its value (2+3 for 5), and
        words without `\\text` count as part of the expression, not as a unit.
    """
    return _same_answers([(given, expected, boxed)])[0]


def grade_many(responses: Sequence[str], answers: Sequence[str]) -> list[bool]:
    """`grade` of each response by its answer, in order; what only mathematics can decide, by several processes at once.

    A repeated question is asked once, and a hostile answer blocks one process for half a second at most.
    """
    if len(responses) != len(answers):
        raise ValueError(f"{len(responses)} responses, but {len(answers)} answers")
    found = [final_answer(response) for response in responses]
    wanted = [final_answer(answer) for answer in answers]
    marked = [i for i, given in enumerate(found) if given is not None]
    questions = []
    for i in marked:
        given, expected = found[i], wanted[i]
        assert given is not None
        questions.append((given.text, answers[i] if expected is None else expected.text, given.boxed))
    verdicts = dict(zip(marked, _same_answers(questions), strict=True))
    return [verdicts.get(i, False) for i in range(len(responses))]


def group_answers(responses: Sequence[str]) -> list[int]:
    """Which responses give the same final answer: a group's number each, from 0 in order of appearance; −1 without one.

    For majority votes. Groups go by the spelling, and numbers by their value. Spellings that are left apart are then
    compared as mathematics with the first answers of the groups so far, in all at most `MOST_COMPARED` times.
    """
    keys: dict[object, int] = {}
    first: list[str] = []  # of each group
    groups, left = [], MOST_COMPARED
    for response in responses:
        given = final_answer(response)
        if given is None or not given.text.strip():
            groups.append(-1)
            continue
        key = _key(given)
        if key not in keys:
            others = first if isinstance(key, str) else []  # of numbers the value has said all
            others = others[:left]
            left -= len(others)
            same = _same_answers([(given.text, other, given.boxed) for other in others])
            keys[key] = same.index(True) if True in same else len(first)
            if keys[key] == len(first):
                first.append(given.text)
        groups.append(keys[key])
    return groups


def _key(given: FinalAnswer) -> object:
    text = given.text.strip()
    if len(text) > MOST_CHARACTERS:
        return text
    text = clean(text)
    number = exact_number(text, units=not given.boxed)
    return _squeeze(text) if number is None else number


def _same_answers(questions: Sequence[tuple[str, str, bool]]) -> list[bool]:
    """`same_answer` of each (given, expected, boxed); the undecided ones go to math_verify in one batch."""
    verdicts = [_decide(given.strip(), expected.strip(), boxed) for given, expected, boxed in questions]
    found = {v: _known.get(v) for v in verdicts if isinstance(v, tuple)}
    # Sorted: a process that has just read an expression need not read it again.
    unknown = sorted((v for v, verdict in found.items() if verdict is None), key=lambda v: v[::-1])
    fresh = dict(zip(unknown, equivalent_many(unknown), strict=True)) if unknown else {}
    if len(_known) + len(fresh) > MOST_KNOWN:
        _known.clear()
    _known.update(fresh)
    return [bool(fresh.get(v, found[v])) if isinstance(v, tuple) else v for v in verdicts]


_known: dict[tuple[str, str], bool] = {}
"""Verdicts of math_verify, by (given, expected) in one spelling: samples of one problem repeat few answers."""


@lru_cache(maxsize=8192)
def _decide(given: str, expected: str, boxed: bool) -> bool | tuple[str, str]:
    """The verdict by numbers and spelling, or the two expressions that mathematics has to compare."""
    if not given or not expected:
        return False
    if max(len(given), len(expected)) > MOST_CHARACTERS:
        return given == expected
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
    return (given, expected) if _comparable(given, expected) else False


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
    if _UNEVALUATED.search(given) and not _UNEVALUATED.search(expected):
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
