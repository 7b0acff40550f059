"""OmegaPRM's trees [Luo 2024]: prefixes of solutions with Monte Carlo values, of which each leaf's path is a record.

A prefix's parent is the longest other prefix that it begins with; the text between the two is one step. A prefix that
occurs in a row several times was estimated as often: its value is the mean.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from stepjax.data.readers.base import Context, Found, RowError, entries, is_answer, text
from stepjax.data.schema import LabelledSolution

_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}")


def read(row: Mapping[str, Any], context: Context) -> Iterator[Found]:
    problem = text(row, "question").strip()
    estimates: dict[str, list[float]] = {}
    for i, entry in enumerate(entries(row, "reasoning_steps")):
        if not isinstance(entry, Mapping):
            raise RowError(f"field 'reasoning_steps': entry {i} must be an object")
        value = entry.get("mc_value")
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise RowError(f"field 'reasoning_steps': entry {i} has mc_value {value!r:.40}, not a number in [0, 1]")
        estimates.setdefault(text(entry, "solution_prefix").rstrip(), []).append(value)
    context.tally.noted["prefixes estimated more than once, their values averaged"] += sum(
        len(found) > 1 for found in estimates.values()
    )
    values = {prefix: sum(found) / len(found) for prefix, found in estimates.items()}
    root = values.pop(problem, None)
    answer = row.get("final_answer")
    if not isinstance(answer, str | int | float | None):
        raise RowError(f"field 'final_answer' must be text or a number, not {type(answer).__name__}")
    answer = "" if answer is None else str(answer)
    name = str(row.get("question_id", ""))
    labelled: set[str] = set()
    for number, path in enumerate(_paths(list(values))):
        steps, before = [], problem
        for prefix in path:
            steps.append(prefix[len(before) :] if prefix.startswith(before) else prefix)
            before = prefix
        shared = sum(prefix in labelled for prefix in path)
        labelled.update(path)
        boxes = _BOXED.findall(steps[-1])
        yield Found(
            LabelledSolution(
                problem,
                tuple(step.strip() for step in steps),
                kind="value",
                values=tuple(values[prefix] for prefix in path),
                answer=answer,
                correct=is_answer(boxes[-1], answer) if boxes and answer else None,
                source="omegaprm",
                place=context.place,
                id=f"{name}#{number}",
                labeller="monte_carlo_tree",
                extra={} if root is None else {"value_of_problem": root},
            ),
            shared=shared,
        )
    if not values:
        context.tally.dropped["trees without a step"] += 1


def _paths(prefixes: list[str]) -> Iterator[list[str]]:
    """From the shortest prefix to each leaf, in lexicographic order, where a prefix comes before what it begins."""
    path: list[str] = []
    for prefix in sorted(prefixes):
        if path and not prefix.startswith(path[-1]):
            yield list(path)
            while path and not prefix.startswith(path[-1]):
                path.pop()
        path.append(prefix)
    if path:
        yield path
