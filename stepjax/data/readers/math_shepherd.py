"""Math-Shepherd's rows [Wang 2023]: the same solution twice, once with a placeholder after each step, once with + or -.

The labels are hard: + where at least one sampled completion of the prefix ended in the right answer. After the last
step there is nothing to complete, so its label is the outcome.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from stepjax.data.readers.base import Context, Found, RowError, text
from stepjax.data.schema import LabelledSolution, first_error_of

PLACEHOLDER = "ки"
_FIRST = re.compile(r"Step 1:")
_SENTENCE_ENDS = ".?!:;$)]}\"'”"
_ANSWER = re.compile(r"[Tt]he answer is:?\s*(.*)", re.DOTALL)
_SIGNS = {"+": 1, "-": -1}


def read(row: Mapping[str, Any], context: Context) -> Iterator[Found]:
    pieces, ratings, rest = _at_placeholders(text(row, "input"), text(row, "label"))
    start = _first_step(pieces[0])
    problem = pieces[0][:start].strip()
    steps = [pieces[0][start:], *pieces[1:]]
    if rest.strip():
        context.tally.dropped["text after the last placeholder"] += 1
    ending = _ANSWER.search(steps[-1])
    yield Found(
        LabelledSolution(
            problem,
            tuple(step.strip() for step in steps),
            kind="value",
            ratings=tuple(ratings),
            first_error=first_error_of(ratings),
            answer=ending[1].strip() if ending and ratings[-1] > 0 else "",
            correct=ratings[-1] > 0 if ending else None,
            source="math_shepherd",
            place=context.place,
            labeller="monte_carlo_hard",
            extra={"task": row["task"]} if isinstance(row.get("task"), str) else {},
        )
    )


def _at_placeholders(shown: str, labelled: str) -> tuple[list[str], list[int], str]:
    """The texts before each placeholder, the rating that `labelled` has in its place, and the text after the last one.

    Where both texts have the placeholder's letters, they are letters of the problem or the solution.
    """
    pieces: list[str] = []
    ratings: list[int] = []
    begin = found = 0
    shift = 0  # the label's place of a character minus the input's
    while (found := shown.find(PLACEHOLDER, found)) >= 0:
        after = found + len(PLACEHOLDER)
        if labelled.startswith(PLACEHOLDER, found + shift):
            found = after
            continue
        sign = labelled[found + shift : found + shift + 1]
        if labelled[begin + shift : found + shift] != shown[begin:found] or sign not in _SIGNS:
            raise RowError(
                f"field 'label' differs from 'input' before placeholder {len(ratings) + 1}, or has no + or - there"
            )
        pieces.append(shown[begin:found])
        ratings.append(_SIGNS[sign])
        shift += len(sign) - len(PLACEHOLDER)
        begin = found = after
    if not pieces:
        raise RowError(f"field 'input' has no placeholder {PLACEHOLDER!r} where 'label' has + or -")
    if labelled[begin + shift :] != shown[begin:]:
        raise RowError("field 'label' differs from 'input' after the last placeholder")
    return pieces, ratings, shown[begin:]


def _first_step(text: str) -> int:
    """Where the solution begins in the text before the first placeholder: at its last "Step 1:" that begins a sentence.

    A problem may list steps of its own (then a "Step 2:" follows them), and a first step may refer to itself in the
    middle of a sentence.
    """
    places = [found.start() for found in _FIRST.finditer(text)]
    if not places:
        raise RowError("field 'input' has no 'Step 1:', so the problem cannot be told from the solution")
    listed = text.rfind("Step 2:", 0, places[-1])
    return next((at for at in reversed(places) if at > listed and _begins_sentence(text, at)), places[-1])


def _begins_sentence(text: str, at: int) -> bool:
    before = text[:at].rstrip()
    return bool(before) and (before[-1] in _SENTENCE_ENDS or "\n" in text[len(before) : at])
