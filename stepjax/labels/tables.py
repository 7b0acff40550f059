"""The tables that `stepjax label` prints at its end."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

from stepjax.config import LabelOptions
from stepjax.console.progress import say, table
from stepjax.console.terminal import one_line
from stepjax.errors import UserError
from stepjax.labels.file import LabelFile
from stepjax.measures.step_classes import CLASSES

_COUNTS = re.compile(r"[0-9]+ verdicts for [0-9]+ steps")


def show_labels(file: LabelFile, options: LabelOptions, *, seconds: float) -> None:
    """Table of the labelled solutions and their cost."""
    count = max(len(file.done), 1)
    what = "questions" if options.method == "judge" else "completions"
    rows: list[list[Any]] = [
        ["solutions", len(file.done), None],
        [what, file.cost.completions, file.cost.completions / count],
        ["tokens written", file.cost.tokens, file.cost.tokens / count],
    ]
    if file.cost.read:
        rows.append(["tokens read", file.cost.read, file.cost.read / count])
    if file.money:
        rows.append(["cost", file.money, file.money / count])
    if options.method == "judge":
        rows.append(["not labelled", file.unlabelled, file.unlabelled / count])
    table(f"Labels by {options.method}, {seconds:.0f} s", ["", "total", "per solution"], rows)
    if options.method == "judge" and file.causes:
        table("Not labelled", ["why", "solutions"], [[one_line(why, 90), n] for why, n in causes(file).most_common()])
    say(str(file.path))


def causes(file: LabelFile) -> Counter[str]:
    """How many records have no label, by reason; those that differ by numbers alone together."""
    found = Counter[str]()
    for why, count in file.causes.items():
        found[_COUNTS.sub("another number of verdicts than steps", why)] += count
    return found


def check_labelled(file: LabelFile, example: str) -> None:
    """UserError where no record of a judge's file has a label; `example`: a reply that could not be used, if any."""
    if not file.done or file.unlabelled < len(file.done):
        return
    common = [f"{one_line(why, 120)} ({count})" for why, count in causes(file).most_common(3)]
    told = f"; a reply: {one_line(example, 120)!r}" if example.strip() else ""
    raise UserError(
        f"none of the {len(file.done)} solutions was labelled: {', '.join(common)}{told}. They are in {file.path}, "
        "without labels; change the judge's options and name another config.label.out"
    )


def show_agreement(figures: dict[str, Any], out: Path) -> None:
    """Table of the agreement of two labellers."""
    rows = [[f"first: {name}", *counts] for name, counts in zip(CLASSES, figures["confusion"], strict=True)]
    table("Steps by both labels", ["", *(f"second: {name}" for name in CLASSES)], rows)
    words = {
        "solutions": "solutions in both",
        "both_labelled": "steps that both label",
        "kept": "labels kept",
        "kept_share": "share kept",
        "agreement_two": "same (wrong or not)",
        "kappa_two": "κ (wrong or not)",
        "agreement_three": "same (three classes)",
        "kappa_three": "κ (three classes)",
        "first_error_same": "same first error",
        "only_first_wrong": "wrong only by the first",
        "only_second_wrong": "wrong only by the second",
    }
    table("Agreement", ["", ""], [[word, figures[name]] for name, word in words.items()])
    say(str(out))
