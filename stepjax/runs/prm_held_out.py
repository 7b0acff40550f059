"""Figures of a process reward model on held-out labelled solutions, of random guesses on them, and calibration."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from stepjax.data.schema import NO_ERROR, LabelledSolution
from stepjax.data.step_encoding import EncodedSolution, Target
from stepjax.measures.calibration import calibration_error, reliability
from stepjax.measures.step_classes import BAD, CLASSES, NEUTRAL
from stepjax.measures.step_scores import ScoredSolution, step_score_report
from stepjax.measures.temperature import fit_temperature, negative_log_likelihood, tempered

CALIBRATION_SHARE = 0.5
DRAWS = 20
"""Random predictions, whose figures' mean is chance."""


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """A held-out solution: its record, its tokens, and what of it is to be predicted."""

    record: LabelledSolution
    encoded: EncodedSolution
    targets: list[Target | None]

    @property
    def calibrates(self) -> bool:
        """Whether the temperature is fitted on it (else it is tested on it); the same for all of a group."""
        return self.record.share("calibration") < CALIBRATION_SHARE


def held_out_report(solutions: Sequence[HeldOut], scores: Sequence[np.ndarray], *, soft: bool) -> dict[str, Any]:
    """The model's figures, chance's, and the calibration before and after the temperature.

    Args:
      solutions: what was held out.
      scores: of each, float[S, 3] at the ends of its steps (NaN where a step has none).
      soft: whether the labels are values, not classes.
    """
    found = _figures(solutions, scores, soft=soft)
    counts = Counter(target.label for s in solutions for target in s.targets if target is not None)
    total = sum(counts.values())
    prior = np.array([counts[label] / max(total, 1) for label in range(len(CLASSES))])
    report = step_score_report([_scored(s, p, soft=soft) for s, p in zip(solutions, scores, strict=True)])
    return {
        "solutions": len(solutions),
        "steps": total,
        "labels": {name: counts[label] for label, name in enumerate(CLASSES)},
        "model": found,
        "chance": _chance(solutions, prior, soft=soft),
        "majority": _figures(solutions, _constant(solutions, np.eye(len(prior))[prior.argmax()]), soft=soft),
        "calibration": calibrate(solutions, scores),
        "detail": report,
    }


def calibrate(solutions: Sequence[HeldOut], scores: Sequence[np.ndarray]) -> dict[str, Any]:
    """The temperature fitted on one half of the problems, and its effect on the other half."""
    halves: dict[bool, tuple[np.ndarray, np.ndarray]] = {}
    for fitting in (True, False):
        pairs = [
            (p[i], target)
            for s, p in zip(solutions, scores, strict=True)
            if s.calibrates == fitting
            for i, target in enumerate(s.targets)
            if target is not None and not np.isnan(p[i]).any()
        ]
        probabilities = np.array([p for p, _ in pairs], np.float64).reshape(-1, len(CLASSES))
        halves[fitting] = probabilities, np.array([_distribution(t) for _, t in pairs]).reshape(probabilities.shape)
    temperature = fit_temperature(*halves[True])
    probabilities, truth = halves[False]
    found: dict[str, Any] = {
        "temperature": temperature,
        "fitted_on": len(halves[True][0]),
        "tested_on": len(probabilities),
    }
    for name, p in (("before", probabilities), ("after", tempered(probabilities, temperature))):
        if len(p):
            # One number a step: P(not bad), as it is used.
            right, known = np.clip(1 - p[:, BAD], 0, 1), 1 - truth[:, BAD]
            found[name] = {
                "ece": calibration_error(reliability(right, known)),
                "nll": negative_log_likelihood(p, truth),
            }
    return found


def _distribution(target: Target) -> np.ndarray:
    """A target as probabilities of the three classes; a soft label is one of bad and good."""
    if target.good in (0.0, 1.0) or target.label == NEUTRAL:
        return np.eye(len(CLASSES))[target.label]
    return np.array([1 - target.good, 0.0, target.good])


def _figures(solutions: Sequence[HeldOut], scores: Sequence[np.ndarray], *, soft: bool) -> dict[str, float]:
    report = step_score_report([_scored(s, p, soft=soft) for s, p in zip(solutions, scores, strict=True)])
    steps, classes = report.get("steps", {}), report.get("classes", {})
    first = report.get("first_error", {}).get("fixed", {})
    found = {
        "macro_f1": None if soft else classes.get("macro_f1"),
        "accuracy": None if soft else classes.get("accuracy"),
        "auc": report["values"]["auc"] if soft and "values" in report else steps.get("auc"),
        "mean_difference": report["values"]["mean_difference"] if soft and "values" in report else None,
        "first_error_f1": first.get("f1"),
        "first_error_accuracy": first.get("error"),
        "no_error_accuracy": first.get("correct"),
    }
    return {name: float(value) for name, value in found.items() if value is not None}


def _scored(solution: HeldOut, scores: np.ndarray, *, soft: bool) -> ScoredSolution:
    """A held-out solution as the measures take it: its steps that have a score."""
    kept = [i for i in range(len(solution.targets)) if not np.isnan(scores[i]).any()]
    targets = [solution.targets[i] for i in kept]
    error = solution.record.first_error
    if error is not None and error != NO_ERROR:
        error = kept.index(error) if error in kept else None
    classes = scores[kept]
    return ScoredSolution(
        right=np.clip(1 - classes[:, BAD], 0, 1),
        rating=[None if target is None else target.label - 1 for target in targets],
        value=[None if target is None or not soft else target.good for target in targets],
        first_error=error,
        outcome=solution.record.correct,
        classes=classes,
    )


def _chance(solutions: Sequence[HeldOut], prior: np.ndarray, *, soft: bool) -> dict[str, float]:
    """Means of the figures of classes drawn from the labels' own shares."""
    generator = np.random.default_rng(0)
    draws = []
    for _ in range(DRAWS):
        scores = [np.eye(len(prior))[generator.choice(len(prior), len(s.targets), p=prior)] for s in solutions]
        draws.append(_figures(solutions, scores, soft=soft))
    return {name: float(np.mean([draw[name] for draw in draws])) for name in draws[0]} if draws else {}


def _constant(solutions: Sequence[HeldOut], scores: np.ndarray) -> list[np.ndarray]:
    return [np.tile(scores, (len(s.targets), 1)) for s in solutions]
