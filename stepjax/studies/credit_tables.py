"""Tables and charts of the study `credit`: means and 95 % intervals over seeds."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy import stats

from stepjax.report.charts import Chart, Line
from stepjax.studies.credit_rules import RULES
from stepjax.studies.credit_writer import PHASES
from stepjax.studies.page import write_charts

Found = Mapping[str, Mapping[str, Mapping[str, float | None]]]
MEASURES = {
    "correlation": "correlation with the exact advantage",
    "wrong_sign": "share of credit with the wrong sign",
    "no_credit": "share of credit not given",
    "bias": "bias",
    "deviation": "standard deviation",
}
"""What each is, for people; bias and deviation in units of the exact advantage's root mean square."""

DRAWN = ("grpo", "outcome_gae", "grpo_process", "step", "vineppo", "progress")


def interval(values: np.ndarray) -> tuple[float, float]:
    """Mean and half the width of its 95 % interval, Student's t over seeds; NaN of fewer than two seeds."""
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return float(values.mean()) if len(values) else np.nan, np.nan
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(half)


def of_seeds(found: Found, steps: int, phase: str, rule: str, measure: str) -> np.ndarray:
    """A figure of every seed; NaN where a rule had none."""
    keys = [key for key in found if key.startswith(f"{steps}/{phase}/")]
    values = [found[key].get(rule, {}).get(measure) for key in sorted(keys)]
    return np.array([np.nan if x is None else x for x in values], np.float64)


def lengths_of(found: Found) -> list[int]:
    """The numbers of derivations K that were measured."""
    return sorted({int(key.partition("/")[0]) for key in found})


def table_of(found: Found, phase: str, measure: str) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of one table: rules by K."""
    lengths = lengths_of(found)
    rows = []
    for rule in RULES:
        cells = [_cell(of_seeds(found, steps, phase, rule, measure)) for steps in lengths]
        rows.append([rule, *cells])
    return ["rule", *(f"K = {steps}" for steps in lengths)], rows


def _cell(values: np.ndarray) -> str:
    if np.isfinite(values).sum() * 2 <= len(values):  # no slope of most seeds' means: nothing to measure it by
        return "–"
    mean, half = interval(values)
    return f"{mean:.2f}" if np.isnan(half) else f"{mean:.2f} ± {half:.2f}"


def write_page(path: Path, found: Found) -> Path:
    """The figures by K as charts on one page; UserError where it cannot be written."""
    parts = []
    for phase in PHASES:
        charts = []
        for measure in ("correlation", "wrong_sign", "deviation"):
            lines = []
            for rule in DRAWN:
                means = [interval(of_seeds(found, k, phase, rule, measure))[0] for k in lengths_of(found)]
                lines.append(Line(rule, [(i, None if np.isnan(x) else x) for i, x in enumerate(means)]))
            unit = "share" if measure == "wrong_sign" else ""
            charts.append(Chart(MEASURES[measure], tuple(lines), unit=unit, x_name="log₂ K − 1", width=440))
        parts.append((f"{phase} in training", charts))
    return write_charts(path, "Credit rules against exact advantages", parts)
