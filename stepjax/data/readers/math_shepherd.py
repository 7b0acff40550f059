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
_ANSWER = re.compile(r"[Tt]he answer is:?\s*(.*)", re.DOTALL)
_SIGNS = {"+": 1, "-": -1}


def read(row: Mapping[str, Any], context: Context) -> Iterator[Found]:
    shown, labelled = text(row, "input"), text(row, "label")
    *pieces, rest = shown.split(PLACEHOLDER)
    if not pieces:
        raise RowError(f"field 'input' has no placeholder {PLACEHOLDER!r}")
    ratings, at = [], 0
    for i, piece in enumerate(pieces):
        sign = labelled[at + len(piece) : at + len(piece) + 1]
        if not labelled.startswith(piece, at) or sign not in _SIGNS:
            raise RowError(f"field 'label' differs from 'input' before placeholder {i + 1}, or has no + or - there")
        ratings.append(_SIGNS[sign])
        at += len(piece) + 1
    if labelled[at:] != rest:
        raise RowError("field 'label' differs from 'input' after the last placeholder")
    start = _FIRST.search(pieces[0])
    if start is None:
        raise RowError("field 'input' has no 'Step 1:', so the problem cannot be told from the solution")
    problem = pieces[0][: start.start()].strip()
    steps = [pieces[0][start.start() :], *pieces[1:]]
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
