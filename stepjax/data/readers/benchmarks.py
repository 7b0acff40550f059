"""ProcessBench, PRMBench and TRL's stepwise supervision: solutions that come cut into steps."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from stepjax.data.readers.base import Context, Found, RowError, entries, text, texts, whole
from stepjax.data.schema import NO_ERROR, LabelledSolution, first_error_of

USELESS = ("redundency", "redundancy", "circular")
"""PRMBench's classes of planted steps that are true but do not advance."""


def processbench(row: Mapping[str, Any], context: Context) -> Iterator[Found]:
    """`label` is the first step in error, -1 where none is [ProcessBench]. What follows an error is not rated."""
    steps, error = texts(row, "steps"), whole(row.get("label"), "label")
    if not -1 <= error < len(steps):
        raise RowError(f"field 'label' is {error}, but there are {len(steps)} steps (-1: no error)")
    good = len(steps) if error < 0 else error
    ratings = [1] * good + [-1] * (error >= 0)
    correct = row.get("final_answer_correct")
    yield Found(
        LabelledSolution(
            text(row, "problem"),
            tuple(steps),
            ratings=(*ratings, *[None] * (len(steps) - len(ratings))),
            first_error=error,
            correct=correct if isinstance(correct, bool) else None,
            source="processbench",
            place=context.place,
            id=str(row.get("id", "")),
            labeller="human",
            extra={"generator": row["generator"]} if isinstance(row.get("generator"), str) else {},
        )
    )


def prmbench(row: Mapping[str, Any], context: Context) -> Iterator[Found]:
    """Planted errors (`error_steps`, counted from 1) in solutions that had none, and those solutions [PRMBench]."""
    steps, original = texts(row, "modified_process"), texts(row, "original_process")
    errors = {whole(number, "error_steps") for number in entries(row, "error_steps")}
    planted, first = text(row, "modified_question"), text(row, "original_question")
    kind, name = str(row.get("classification", "")), str(row.get("idx", ""))
    common: dict[str, Any] = {"source": "prmbench", "place": context.place, "group": " ".join(first.split())}
    outside = sorted(n for n in errors if not 1 <= n <= len(steps))
    if outside:
        # Numbers of another numbering: nobody can say which steps of this row they mean.
        context.tally.dropped["solutions whose error_steps lie beyond the last step"] += 1
    else:
        wrong = 0 if kind in USELESS and context.options.useless == "neutral" else -1
        ratings = tuple(wrong if n in errors else 1 for n in range(1, len(steps) + 1))
        yield Found(
            LabelledSolution(
                planted,
                tuple(steps),
                ratings=ratings,
                first_error=first_error_of(ratings),
                id=f"{name}/{kind}" if kind else name,
                labeller="planted",
                extra={"classification": kind, "path": "modified"},
                **common,
            )
        )
    if not context.options.originals:
        context.tally.dropped["original solutions (originals=False)"] += 1
        return
    digest = hashlib.sha256("\0".join([first, *original]).encode()).digest()[:12]
    if digest in context.seen:
        context.tally.dropped["original solutions given before"] += 1
        return
    context.seen.add(digest)
    yield Found(
        LabelledSolution(
            first,
            tuple(original),
            ratings=(1,) * len(original),
            first_error=NO_ERROR,
            id=f"{name}/original",
            labeller="original",
            extra={"path": "original"},
            **common,
        )
    )


def trl(row: Mapping[str, Any], context: Context) -> Iterator[Found]:
    """`prompt`, `completions`, `labels`: true/false or 1/0 for good/bad, other numbers in [0, 1] for soft labels."""
    steps, labels = texts(row, "completions"), entries(row, "labels")
    if len(labels) != len(steps):
        raise RowError(f"{len(labels)} labels, but {len(steps)} completions")
    for i, label in enumerate(labels):
        if label is not None and not (isinstance(label, int | float) and 0 <= label <= 1):
            raise RowError(f"field 'labels': entry {i} must be true, false or a number in [0, 1], not {label!r:.40}")
    hard = all(label in (None, 0, 1) for label in labels)  # in Python true is 1
    ratings = tuple(None if label is None else (1 if label else -1) for label in labels) if hard else ()
    yield Found(
        LabelledSolution(
            _prompt(row),
            tuple(steps),
            kind=context.options.kind or "step",
            ratings=ratings,
            values=() if hard else tuple(labels),
            first_error=first_error_of(ratings) if hard else None,
            source="trl",
            place=context.place,
            id=str(row.get("id", "")),
        )
    )


def _prompt(row: Mapping[str, Any]) -> str:
    """A prompt that is text, or a conversation: the texts of its turns."""
    prompt = row.get("prompt")
    if not isinstance(prompt, list):
        return text(row, "prompt")
    if not all(isinstance(turn, Mapping) for turn in prompt):
        raise RowError("field 'prompt' must be text or a list of turns with 'content'")
    return "\n\n".join(text(turn, "content") for turn in prompt)
