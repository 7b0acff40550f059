"""Measures of step labels, process reward models and their selections: pure functions of NumPy arrays.

A figure that the data do not determine (the AUC of one class, κ where chance agrees always) is NaN, never a guess.
"""

from stepjax.measures.aggregate import AGGREGATORS, aggregate
from stepjax.measures.calibration import Reliability, calibration_error, reliability
from stepjax.measures.classification import accuracy, cohen_kappa, confusion_matrix, f1_scores, macro_f1
from stepjax.measures.first_error import FirstErrors, first_below, first_errors, tune_threshold
from stepjax.measures.ranking import auc

__all__ = [
    "AGGREGATORS",
    "FirstErrors",
    "Reliability",
    "accuracy",
    "aggregate",
    "auc",
    "calibration_error",
    "cohen_kappa",
    "confusion_matrix",
    "f1_scores",
    "first_below",
    "first_errors",
    "macro_f1",
    "reliability",
    "tune_threshold",
]
