"""How well a process reward model scores steps that it has not learned on, from the responses of an evaluation.

A model of steps, one of prefixes and one of values mean different things by a score, and are told apart by it: on all
steps the exact rating is what the first one learned. Up to the first error a step is right where its prefix is, so that
there all three are asked the same.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from stepjax.evaluation.records import is_tuning
from stepjax.measures.first_error import NONE
from stepjax.measures.ranking import auc
from stepjax.measures.step_scores import ScoredSolution, first_error_report
from stepjax.report.read import read_lines
from stepjax.studies.study import Figures

TUNING = 0.3
"""Share of the problems on which the threshold of first errors is tuned; the figure is measured on the others."""


def read_solutions(path: Path) -> list[ScoredSolution]:
    """The scored responses of a file that an evaluation wrote; one that the model could not read is left out."""
    return [scored(row) for row in read_lines(path, []) if row["extra"].get("prm")]


def scored(row: Mapping[str, Any]) -> ScoredSolution:
    """A response as it stands in the file. A last step that truncation cut off has no rating."""
    extra = row["extra"]
    rating: list[int | None] = list(extra["step_ratings"])
    if extra.get("unfinished"):
        rating[-1] = None
    wrong = [k for k, x in enumerate(rating) if x is not None and x < 0]
    return ScoredSolution(
        right=np.asarray(extra["prm"], np.float64),
        rating=rating,
        first_error=wrong[0] if wrong else NONE,
        outcome=bool(row["correct"]),
        tuning=is_tuning(extra["prompt"], TUNING),
    )


def truth_of(solution: ScoredSolution, target: str) -> Bool[np.ndarray, " S"]:
    """What a model of this `prm.target` learns to say of each step: that it is right, that none so far is wrong, or
    that the response ends in the right answer."""
    right = np.array([x is None or x >= 0 for x in solution.rating], bool)
    if target == "prefix":
        return np.logical_and.accumulate(right)
    return right if target == "step" else np.full(len(right), bool(solution.outcome))


def score_figures(solutions: Sequence[ScoredSolution], target: str) -> Figures:
    """AUC of scores and F1 of first errors; NaN where there are no wrong or no right ones.

    auc: against whether each step is right. auc_first: the same of the steps up to the first wrong one. auc_own:
    against what the model learned to say. f1, f1_tuned: ProcessBench's, at 0.5 and at a threshold tuned on other
    problems of the same world.
    """
    until = [len(s.rating) if s.first_error == NONE else (s.first_error or 0) + 1 for s in solutions]
    found = {
        "auc": _auc((s, truth_of(s, "step"), len(s.rating)) for s in solutions),
        "auc_first": _auc((s, truth_of(s, "step"), end) for s, end in zip(solutions, until, strict=True)),
        "auc_own": _auc((s, truth_of(s, target), len(s.rating)) for s in solutions),
    }
    report = first_error_report(solutions)
    return found | {"f1": report["fixed"]["f1"], "f1_tuned": report.get("tuned", {}).get("f1", float("nan"))}


def _auc(parts: Iterable[tuple[ScoredSolution, np.ndarray, int]]) -> float:
    """Over the rated steps before `end` of each solution."""
    scores, truths = [], []
    for solution, truth, end in parts:
        known = np.array([rating is not None for rating in solution.rating[:end]], bool)
        scores.append(solution.right[:end][known])
        truths.append(truth[:end][known])
    if not scores:
        return float("nan")
    return auc(np.concatenate(scores), np.concatenate(truths))


def selection_figures(report: Mapping[str, Any], how: str) -> Figures:
    """Right answers by selection among all responses of a pool: of one sample, of the majority, of the best by the
    least and by the last score, of any; `closed`: by how much of the way from one sample to any the best by `how`
    comes, NaN where there is none."""
    curves = {name: curve["mean"] for name, curve in report["curves"].items()}
    one, whole = curves["pass"][0], curves["pass"][-1]
    best = {name: curves[f"best/{name}"][-1] for name in ("min", "last")}
    return {
        "accuracy": one,
        "majority": curves["majority"][-1],
        "best_min": best["min"],
        "best_last": best["last"],
        "any": whole,
        "closed": (best[how] - one) / (whole - one) if whole > one else float("nan"),
    }
