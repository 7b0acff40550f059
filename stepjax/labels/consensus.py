"""Labels that two labellers agree on [Zhang 2025, 2501.07301: keep labels on which Monte Carlo and a judge agree]."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stepjax.config import LabelOptions
from stepjax.data.schema import LabelledSolution
from stepjax.errors import UserError
from stepjax.evaluation.records import match
from stepjax.judges.cost import Cost
from stepjax.labels.file import LabelFile
from stepjax.labels.sources import read_solutions
from stepjax.labels.tables import show_agreement
from stepjax.measures.classification import accuracy, cohen_kappa, confusion_matrix
from stepjax.workdir.json_file import plain, write_json

THRESHOLD = 0.5
"""A step that has a value alone is good from here on."""


@dataclass(frozen=True)
class Agreement:
    """Two labellings of one solution, compared.

    Attributes:
      record: the first labeller's, with the labels on which both agree.
      first, second: the compared ratings, one per step.
      errors: both places of the first error, −1 for none; None where one is not known.
    """

    record: LabelledSolution
    first: tuple[int | None, ...]
    second: tuple[int | None, ...]
    errors: tuple[int, int] | None


def consensus(first: LabelledSolution, second: LabelledSolution, classes: int) -> Agreement:
    """Keeps the first record's labels of the steps that both call wrong or both do not (classes=2), or rate the same.

    The first error is kept where both name the same one. The record's cost is that of both.
    """
    one, other = first.ratings_at(THRESHOLD), second.ratings_at(THRESHOLD)

    def same(a: int | None, b: int | None) -> bool:
        if a is None or b is None:
            return False
        return a == b if classes == 3 else (a < 0) == (b < 0)

    agreed = [same(a, b) for a, b in zip(one, other, strict=True)]
    places = first.error_at(THRESHOLD), second.error_at(THRESHOLD)
    errors = None if places[0] is None or places[1] is None else (places[0], places[1])
    cost = Cost.from_json(first.extra.get("cost")) + Cost.from_json(second.extra.get("cost"))
    kept = {"steps": sum(agreed), "of": len(agreed), "with": [first.labeller, second.labeller]}

    def only(column: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(entry if keep else None for entry, keep in zip(column, agreed, strict=True))

    record = first.with_labels(
        ratings=only(first.ratings),
        values=only(first.values),
        first_error=errors[0] if errors and errors[0] == errors[1] else None,
        completions=only(first.completions),
        tokens=only(first.tokens),
        labeller="consensus",
        extra={**first.extra, "label": kept, "cost": cost.to_json()},
    )
    return Agreement(record, one, other, errors)


def agreement_figures(found: Sequence[Agreement]) -> dict[str, Any]:
    """Agreement of the two labellers: steps, confusion (rows the first, columns the second; bad, neutral, good), κ."""
    pairs = [
        (a, b)
        for each in found
        for a, b in zip(each.first, each.second, strict=True)
        if a is not None and b is not None
    ]
    one, other = np.array(pairs, np.int64).reshape(-1, 2).T
    three = confusion_matrix(one + 1, other + 1, 3)
    two = confusion_matrix((one >= 0) * 1, (other >= 0) * 1, 2)
    placed = [each.errors for each in found if each.errors is not None]
    kept = sum(each.record.labelled for each in found)
    return {
        "solutions": len(found),
        "steps": sum(len(each.first) for each in found),
        "both_labelled": len(pairs),
        "kept": kept,
        "kept_share": kept / len(pairs) if pairs else None,
        "confusion": three.tolist(),
        "agreement_two": accuracy(two) if pairs else None,
        "kappa_two": cohen_kappa(two) if pairs else None,
        "agreement_three": accuracy(three) if pairs else None,
        "kappa_three": cohen_kappa(three) if pairs else None,
        "first_error_same": sum(a == b for a, b in placed) / len(placed) if placed else None,
        "only_first_wrong": int(two[0, 1]),
        "only_second_wrong": int(two[1, 0]),
    }


def write_consensus(options: LabelOptions, out: Path) -> None:
    """Writes the labels that `label.first` and `label.second` agree on, and the figures of their agreement."""
    if not options.first or not options.second:
        raise UserError("config.label.first and config.label.second: name the two files of labels")
    first = read_solutions(options.first, "config.label.first")
    second = read_solutions(options.second, "config.label.second")
    pairs = match(first, second, ("config.label.first", "config.label.second"))
    if not pairs:
        raise UserError(
            f"{options.first} and {options.second} have no solution in common (by id, or by problem and steps)"
        )
    found = [consensus(first[i], second[j], options.classes) for i, j in pairs]
    with LabelFile(out, {n: getattr(options, n) for n in ("method", "first", "second", "classes")}) as file:
        file.append(
            each.record if each.record.id else each.record.with_labels(id=f"row {i}") for i, each in enumerate(found)
        )
    figures = {
        "first": options.first,
        "second": options.second,
        "unmatched": {"first": len(first) - len(pairs), "second": len(second) - len(pairs)},
        **agreement_figures(found),
    }
    write_json(out.with_suffix(".agreement.json"), plain(figures))
    show_agreement(plain(figures), out)
    if not figures["kept"]:
        raise UserError(
            f"{options.first} and {options.second} agree on no label: of {figures['steps']} steps both label "
            f"{figures['both_labelled']}; {out} holds the solutions without labels"
        )
