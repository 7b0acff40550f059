"""Labels against gold labels of the same steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepjax.measures.classification import confusion_matrix, confusion_report, f1_scores
from stepjax.measures.first_error import NONE, first_errors
from stepjax.measures.step_classes import CLASSES
from stepjax.measures.step_scores import by_position


@dataclass(frozen=True)
class LabelPair:
    """Two labellings of one solution.

    Attributes:
      found, gold: the rating of each step, −1, 0 or +1; None: not labelled.
      found_error, gold_error: index of the first wrong step, −1 for none; None: not known.
      completions, tokens: cost of the found labels per step; None: not known.
    """

    found: Sequence[int | None]
    gold: Sequence[int | None]
    found_error: int | None = None
    gold_error: int | None = None
    completions: Sequence[int | None] = ()
    tokens: Sequence[int | None] = ()


def agreement_report(pairs: Sequence[LabelPair]) -> dict[str, Any]:
    """Agreement over all steps that both have labelled.

    three: bad, neutral, good as three classes. two: wrong or not, neutral counting as not wrong. first_error: exact
    places of first errors, and `has_error`, the F1 of "there is an error". cost: completions and tokens a label.
    """
    rows = [
        (gold, found, k)
        for pair in pairs
        for k, (gold, found) in enumerate(zip(pair.gold, pair.found, strict=True))
        if gold is not None and found is not None
    ]
    gold, found, position = np.array(rows, np.int64).reshape(-1, 3).T

    def two(of: np.ndarray) -> dict[str, Any]:
        return confusion_report(confusion_matrix((gold[of] >= 0) * 1, (found[of] >= 0) * 1, 2), ("wrong", "right"))

    report: dict[str, Any] = {
        "solutions": len(pairs),
        "steps": len(rows),
        "unlabelled": sum(g is not None and f is None for p in pairs for g, f in zip(p.gold, p.found, strict=True)),
        "three": confusion_report(confusion_matrix(gold + 1, found + 1, 3), CLASSES),
        "two": two(np.ones(len(rows), bool)),
        "by_position": by_position(position, two),
    }
    placed = [(p.found_error, p.gold_error) for p in pairs if p.found_error is not None and p.gold_error is not None]
    if placed:
        found_at, gold_at = np.array(placed, np.int64).T
        erring = confusion_matrix((gold_at != NONE) * 1, (found_at != NONE) * 1, 2)
        report["first_error"] = {
            "solutions": len(placed),
            "same": float((found_at == gold_at).mean()),
            **vars(first_errors(found_at, gold_at)),
            "has_error": float(f1_scores(erring)[1]),
        }
    cost = {name: [c for p in pairs for c in getattr(p, name) if c is not None] for name in ("completions", "tokens")}
    report["cost"] = {name: {"labels": len(c), "each": sum(c) / len(c)} for name, c in cost.items() if c}
    return report
