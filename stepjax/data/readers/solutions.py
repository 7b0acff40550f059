"""GSM8K and MATH: reference solutions, whose steps are not labelled."""

from collections.abc import Iterator, Mapping
from typing import Any

from stepjax.answers.grading import final_answer
from stepjax.data.readers.base import Context, Found, RowError, text
from stepjax.data.schema import NO_ERROR, LabelledSolution
from stepjax.separators import separator_pattern


def gsm8k(row: Mapping[str, Any], context: Context) -> Iterator[Found]:
    """Each line of `answer` is a step, also the last one, `#### 72` [Cobbe 2021]."""
    solution = text(row, "answer")
    steps = [line.strip() for line in solution.split("\n") if line.strip()]
    final = final_answer(solution)
    if final is None or final.boxed:
        raise RowError("field 'answer' has no line '#### …' with the final answer")
    yield _reference(text(row, "question"), steps, final.text, "gsm8k", context)


def math(row: Mapping[str, Any], context: Context) -> Iterator[Found]:
    r"""A paragraph of `solution` is a step; the answer is the field `answer`, or the content of the last `\boxed`."""
    solution = text(row, "solution")
    steps = [part.strip() for part in separator_pattern("\n\n").split(solution) if part.strip()]
    if not steps:
        raise RowError("field 'solution' is empty")
    final = row.get("answer")
    if not isinstance(final, str):
        found = final_answer(solution)
        final = found.text if found else ""
    extra = {name: row[name] for name in ("subject", "type", "level") if isinstance(row.get(name), str | int)}
    yield _reference(text(row, "problem"), steps, final, "math", context, str(row.get("unique_id", "")), extra)


def _reference(
    problem: str,
    steps: list[str],
    answer: str,
    source: str,
    context: Context,
    name: str = "",
    extra: Mapping[str, Any] | None = None,
) -> Found:
    good = context.options.references == "good"
    return Found(
        LabelledSolution(
            problem,
            tuple(steps),
            ratings=(1,) * len(steps) if good else (),
            first_error=NO_ERROR if good else None,
            answer=answer,
            correct=True,
            source=source,
            place=context.place,
            id=name,
            labeller="reference" if good else "",
            extra=extra or {},
        )
    )
