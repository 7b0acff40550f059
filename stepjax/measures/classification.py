"""Agreement of two classifications: confusion counts, accuracy, F1, Cohen's κ."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int


def confusion_matrix(
    truth: Int[np.ndarray, " n"], predicted: Int[np.ndarray, " n"], classes: int
) -> Int[np.ndarray, "C C"]:
    """Counts `[true class][predicted class]`.

    Raises:
      ValueError: where the two differ in length or hold anything but classes 0 … `classes` − 1.
    """
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    if truth.shape != predicted.shape or truth.ndim != 1:
        raise ValueError(f"{truth.shape} true classes, but {predicted.shape} predicted ones")
    both = np.concatenate([truth, predicted])
    if both.size and (both.dtype.kind not in "iu" or both.min() < 0 or both.max() >= classes):
        raise ValueError(f"classes must be whole numbers from 0 to {classes - 1}")
    cells = truth.astype(np.int64) * classes + predicted
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def accuracy(confusion: Int[np.ndarray, "C C"]) -> float:
    """The share on the diagonal; NaN where nothing was counted."""
    total = confusion.sum()
    return float(np.trace(confusion) / total) if total else float("nan")


def f1_scores(confusion: Int[np.ndarray, "C C"]) -> Float[np.ndarray, " C"]:
    """F1 = 2 TP / (2 TP + FP + FN) of each class; NaN for a class that neither occurs nor is predicted."""
    both = confusion.sum(0) + confusion.sum(1)
    return np.where(both > 0, 2 * np.diag(confusion) / np.maximum(both, 1), np.nan)


def macro_f1(confusion: Int[np.ndarray, "C C"]) -> float:
    """The mean F1 of the classes that occur or are predicted; NaN where there is none."""
    known = f1_scores(confusion)
    known = known[~np.isnan(known)]
    return float(known.mean()) if known.size else float("nan")


def cohen_kappa(confusion: Int[np.ndarray, "C C"]) -> float:
    """κ = (p_o − p_e) / (1 − p_e), agreement beyond what the two margins give by chance [Cohen 1960].

    NaN where chance alone agrees always (both use the same single class), or nothing was counted.
    """
    total = confusion.sum()
    if not total:
        return float("nan")
    by_chance = float((confusion.sum(0) / total) @ (confusion.sum(1) / total))
    return (accuracy(confusion) - by_chance) / (1 - by_chance) if by_chance < 1 else float("nan")


def confusion_report(confusion: Int[np.ndarray, "C C"], names: Sequence[str]) -> dict[str, Any]:
    """Accuracy, macro-F1, κ, the F1 of each named class, and the counts themselves."""
    return {
        "accuracy": accuracy(confusion),
        "macro_f1": macro_f1(confusion),
        "kappa": cohen_kappa(confusion),
        "f1": dict(zip(names, f1_scores(confusion).tolist(), strict=True)),
        "confusion": confusion.tolist(),
    }
