r"""Whether a response's final answer is right: `#### 42` as in GSM8K, `\boxed{\frac{1}{2}}` as in MATH.

The last mark of a response decides, so that a response cannot hedge (`answers/marks.py`). Both answers are read as
typed values (`answers/reading.py`) and values of one type are compared (`answers/comparison.py`): numbers exactly,
expressions at points, sets as sets, words letter by letter. What is not understood is compared by its spelling; what is
in doubt is wrong. Everything is bounded by the length of what is read, so that no answer takes long, and the verdict is
the same on every machine.
"""

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

from stepjax.answers.comparison import same
from stepjax.answers.evaluation import Doubt, Evaluation
from stepjax.answers.expression_trees import is_literal
from stepjax.answers.marks import FinalAnswer, all_boxes, final_answer
from stepjax.answers.reading import read
from stepjax.answers.spelling import spell, squeeze
from stepjax.answers.values import Group, Named, Quantity, Several, Value

__all__ = ["FinalAnswer", "final_answer", "grade", "grade_many", "group_answers", "number_of", "same_answer"]

MOST_CHARACTERS = 300  # longer answers are compared as text
MOST_COMPARED = 256


def grade(response: str, answer: str) -> bool:
    r"""Whether the response's final answer equals `answer`, which may be bare (`42`) or marked (`#### 42`).

    Where several answers are asked for, a box of each will do. False where the response has no mark, an empty one or a
    box that is never closed. Bounded in time whatever the text.
    """
    given = final_answer(response)
    if given is None:
        return False
    marked = final_answer(answer)
    expected = answer if marked is None else marked.text
    if same_answer(given.text, expected, boxed=given.boxed):
        return True
    boxes = all_boxes(response) if given.boxed and _is_list(expected) else []
    return len(boxes) > 1 and same_answer(", ".join(boxes), expected, boxed=True)


def same_answer(given: str, expected: str, *, boxed: bool = False) -> bool:
    """Whether two final answers are the same number, the same text in one spelling, or equal as mathematics.

    Args:
      given: the answer to compare.
      expected: the right one.
      boxed: whether `given` is LaTeX rather than plain text: an expression then counts for its value (2+3 for 5), and
        single letters are variables, not units.
    """
    given, expected = given.strip(), expected.strip()
    if max(len(given), len(expected)) > MOST_CHARACTERS:
        return given == expected
    return bool(given and expected) and _same_answer(given, expected, boxed)


def grade_many(responses: Sequence[str], answers: Sequence[str]) -> list[bool]:
    """`grade` of each response by its answer, in order."""
    if len(responses) != len(answers):
        raise ValueError(f"{len(responses)} responses, but {len(answers)} answers")
    return [grade(response, answer) for response, answer in zip(responses, answers, strict=True)]


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
            same_as = (k for k, other in enumerate(others) if same_answer(given.text, other, boxed=given.boxed))
            keys[key] = next(same_as, len(first))
            if keys[key] == len(first):
                first.append(given.text)
        groups.append(keys[key])
    return groups


def number_of(text: str, *, boxed: bool = True) -> Fraction | None:
    """The value of an answer that is a number, a fraction or a mixed number, perhaps with a unit; else None."""
    value = read(text.strip(), plain=not boxed) if len(text) <= MOST_CHARACTERS else None
    if not isinstance(value, Quantity) or not is_literal(value.tree) or "%" in value.unit:
        return None
    try:
        found = Evaluation(64).value(value.tree)
    except Doubt:
        return None
    return found if isinstance(found, Fraction) else None


def _key(given: FinalAnswer) -> object:
    text = given.text.strip()
    if len(text) > MOST_CHARACTERS:
        return text
    number = number_of(text, boxed=given.boxed)
    return squeeze(spell(text)) if number is None else number


@lru_cache(maxsize=65536)
def _same_answer(given: str, expected: str, boxed: bool) -> bool:
    one, other = spell(given), spell(expected)
    if not one or not other:
        return False
    if squeeze(one) == squeeze(other):
        return True
    value, wanted = read(given, plain=not boxed), read(expected)
    if not boxed and _is_number(wanted) and not _is_number(value):
        return False  # plain text must say a number, not how to work it out
    return same(value, wanted)


def _bare(value: Value) -> Value:
    return value.value if isinstance(value, Named) else value


def _is_number(value: Value) -> bool:
    value = _bare(value)
    return isinstance(value, Quantity) and is_literal(value.tree)


def _is_list(expected: str) -> bool:
    value = _bare(read(expected)) if len(expected) <= MOST_CHARACTERS else None
    return isinstance(value, Several) or (isinstance(value, Group) and value.opening == r"\{")
