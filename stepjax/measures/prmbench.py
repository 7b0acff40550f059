"""PRMBench's measures of planted errors [Song 2025, 2501.03124]."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stepjax.measures.classification import confusion_matrix, f1_scores

USEFULNESS = ("redundency", "redundancy", "circular")
"""Kinds whose planted steps are true but useless: a model of correctness is not made to find them."""

CORRECT = "correct"
"""The kind of solutions in which nothing was planted: a group of their own, in no total."""


def prm_score(wrong_found: Sequence[bool], wrong: Sequence[bool]) -> dict[str, Any]:
    """Figures of pooled steps.

    f1 is that of the steps without an error, negative_f1 that of those with one, prm_score their mean. A figure is NaN
    where its class neither occurs nor is predicted.
    """
    confusion = confusion_matrix(np.asarray(wrong, np.int64), np.asarray(wrong_found, np.int64), 2)
    f1, negative = (float(x) for x in f1_scores(confusion))
    return {"steps": int(confusion.sum()), "f1": f1, "negative_f1": negative, "prm_score": (f1 + negative) / 2}


def prmbench_report(
    scores: Sequence[np.ndarray],
    errors: Sequence[Sequence[bool]],
    kinds: Sequence[str],
    *,
    threshold: float = 0.5,
) -> dict[str, Any]:
    """PRMBench's figures by error kind, over those that are errors of truth, of usefulness, and all of them.

    Args:
      scores: P(step is right) of each solution's steps; a step counts as wrong where it is below the threshold.
      errors: whether each step has a planted error.
      kinds: the error kind of each solution.
      threshold: on the scores.

    Returns:
      `kinds`: figures by kind, with first_error, the share of solutions whose first planted step was found wrong (not
      whether one before it was); `truth`, `usefulness` and `all`: figures of the pooled steps.
    """
    found = [np.asarray(s, np.float64) < threshold for s in scores]

    def pooled(of: Sequence[int]) -> dict[str, Any]:
        wrong = [e for i in of for e in errors[i]]
        report = prm_score([bool(f) for i in of for f in found[i]], wrong)
        first = [bool(found[i][list(errors[i]).index(True)]) for i in of if any(errors[i])]
        return {"solutions": len(of), **report, "first_error": float(np.mean(first)) if first else float("nan")}

    by_kind: Mapping[str, list[int]] = {k: [i for i, kind in enumerate(kinds) if kind == k] for k in sorted(set(kinds))}
    planted = [i for i, kind in enumerate(kinds) if kind != CORRECT]
    useful = [i for i in planted if kinds[i] in USEFULNESS]
    truth = [i for i in planted if kinds[i] not in USEFULNESS]
    return {
        "threshold": threshold,
        "kinds": {kind: pooled(of) for kind, of in by_kind.items()},
        "truth": pooled(truth),
        "usefulness": pooled(useful),
        "all": pooled(planted),
    }
