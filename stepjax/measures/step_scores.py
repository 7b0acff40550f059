"""All figures of a process reward model on solutions with known step ratings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from stepjax.measures.aggregate import AGGREGATORS, aggregate
from stepjax.measures.calibration import calibration_error, reliability
from stepjax.measures.classification import confusion_matrix, confusion_report
from stepjax.measures.first_error import NONE, first_below, first_errors, tune_threshold
from stepjax.measures.ranking import auc
from stepjax.measures.step_classes import CLASSES

MOST_POSITIONS = 10
"""Steps from this one on (counted from 0) are one position in tables."""


@dataclass(frozen=True)
class ScoredSolution:
    """A solution with a model's scores and its known ratings; S steps.

    Attributes:
      right: P(step is right) by the model, in [0, 1].
      rating: −1 bad, 0 neutral, +1 good of each step; None: not known. A step is right where it is not bad.
      value: P(right answer | steps so far), estimated by sampling; None: not known.
      first_error: index of the first wrong step, −1 for none; None: not known.
      outcome: whether it ends in the right answer; None: not known.
      classes: the model's P(bad), P(neutral), P(good); None: it has no such classes.
      tuning: True where thresholds are tuned on it; figures of a tuned threshold then leave it out.
    """

    right: Float[np.ndarray, " S"]
    rating: Sequence[int | None]
    value: Sequence[float | None] = ()
    first_error: int | None = None
    outcome: bool | None = None
    classes: Float[np.ndarray, "S 3"] | None = None
    tuning: bool = False


def step_score_report(solutions: Sequence[ScoredSolution], *, threshold: float = 0.5, bins: int = 10) -> dict[str, Any]:
    """Figures by name; a part without known ratings is left out, a figure that is not determined is NaN.

    steps: AUC and ECE of P(right) against the rating, over all rated steps and by position, with the diagram's points.
    values: the same against values (AUC: of values of at least one half), and the mean absolute difference.
    outcome: AUC of the solution's score against the outcome, by aggregator.
    classes: the three classes' confusion, macro-F1, accuracy and κ.
    first_error: ProcessBench's figures at the threshold and at a tuned one (on the solutions not tuned on).
    """
    found: dict[str, Any] = {"solutions": len(solutions)}
    rated = _pairs(solutions, lambda s: s.rating)
    if rated.size:
        found["steps"] = _truth_report(rated[:, 0], rated[:, 1] >= 0, (rated[:, 1] >= 0) * 1.0, rated[:, 2], bins)
    valued = _pairs(solutions, lambda s: s.value)
    if valued.size:
        found["values"] = _truth_report(valued[:, 0], valued[:, 1] >= 0.5, valued[:, 1], valued[:, 2], bins)
        found["values"]["mean_difference"] = float(np.abs(valued[:, 0] - valued[:, 1]).mean())
    ended = [s for s in solutions if s.outcome is not None]
    if ended:
        truth = np.array([s.outcome for s in ended], bool)
        scores = {how: np.array([aggregate(s.right, how) for s in ended]) for how in AGGREGATORS}
        found["outcome"] = {
            "solutions": len(ended),
            "right": float(truth.mean()),
            "auc": {how: auc(x, truth) for how, x in scores.items()},
        }
    if (classes := _class_report(solutions)) is not None:
        found["classes"] = classes
    placed = [s for s in solutions if s.first_error is not None]
    if placed:
        found["first_error"] = first_error_report(placed, threshold=threshold)
    return found


def first_error_report(solutions: Sequence[ScoredSolution], *, threshold: float = 0.5) -> dict[str, Any]:
    """ProcessBench's figures of solutions with a known `first_error`: at a fixed threshold, and at one that is tuned
    on the solutions marked so and measured on the others. Both are given for the same solutions, too."""
    tuning, rest = [s for s in solutions if s.tuning], [s for s in solutions if not s.tuning]
    found: dict[str, Any] = {"threshold": threshold, "fixed": _first_errors(solutions, threshold)}
    if tuning and rest:
        tuned = tune_threshold([s.right for s in tuning], _places(tuning))
        found["tuned"] = {"threshold": tuned, "tuned_on": len(tuning)} | _first_errors(rest, tuned)
        found["fixed_on_rest"] = _first_errors(rest, threshold)
    return found


def by_position(
    position: Int[np.ndarray, " n"], figures: Callable[[np.ndarray], dict[str, Any]]
) -> list[dict[str, Any]]:
    """`figures(mask)` of the steps at each position 0 … `MOST_POSITIONS`, the last one holding all that follow."""
    at = np.minimum(position, MOST_POSITIONS)
    return [{"position": int(k), "steps": int((at == k).sum())} | figures(at == k) for k in np.unique(at)]


def _first_errors(solutions: Sequence[ScoredSolution], threshold: float) -> dict[str, Any]:
    return vars(first_errors(np.array([first_below(s.right, threshold) for s in solutions]), _places(solutions)))


def _places(solutions: Sequence[ScoredSolution]) -> np.ndarray:
    return np.array([NONE if s.first_error is None else s.first_error for s in solutions])


def _pairs(solutions: Sequence[ScoredSolution], known: Callable[[ScoredSolution], Sequence[Any]]) -> np.ndarray:
    """float[n, 3]: P(right), the known value and the position of each step that has one."""
    rows = [
        (p, truth, k)
        for s in solutions
        for k, (p, truth) in enumerate(zip(s.right, known(s) or [None] * len(s.right), strict=True))
        if truth is not None
    ]
    return np.array(rows, np.float64).reshape(-1, 3)


def _truth_report(
    p: np.ndarray, truth: np.ndarray, soft: np.ndarray, position: np.ndarray, bins: int
) -> dict[str, Any]:
    diagram = reliability(p, soft, bins=bins)

    def figures(of: np.ndarray) -> dict[str, Any]:
        return {
            "share": float(soft[of].mean()),
            "auc": auc(p[of], truth[of]),
            "ece": calibration_error(reliability(p[of], soft[of], bins=bins)),
        }

    return {
        "steps": len(p),
        **figures(np.ones(len(p), bool)),
        "brier": float(np.square(p - soft).mean()),
        "by_position": by_position(position.astype(np.int64), figures),
        "reliability": {name: getattr(diagram, name).tolist() for name in ("count", "predicted", "observed")},
    }


def _class_report(solutions: Sequence[ScoredSolution]) -> dict[str, Any] | None:
    rows = [
        (rating + 1, int(chances.argmax()))
        for s in solutions
        if s.classes is not None
        for rating, chances in zip(s.rating, s.classes, strict=True)
        if rating is not None
    ]
    if not rows:
        return None
    truth, predicted = np.array(rows).T
    return confusion_report(confusion_matrix(truth, predicted, len(CLASSES)), CLASSES)
