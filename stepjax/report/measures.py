"""Evaluations of labels and process reward models in the report: the terminal's tables, and a chart of each curve."""

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from stepjax.measures.step_scores import MOST_POSITIONS
from stepjax.report.cells import Table
from stepjax.report.charts import Chart, Line, draw
from stepjax.report.search_curves import search_charts
from stepjax.report.series import Points
from stepjax.report.tables import CURVES, TABLES
from stepjax.report.text import number

TITLES = {
    "labels": "Labels against gold labels",
    "prm": "Process reward model against true ratings",
    "processbench": "First errors (ProcessBench)",
    "prmbench": "Planted errors (PRMBench)",
    "best_of_n": "Selection among N responses",
    "search": "Searches",
    "suite": "Benchmarks",
}


@dataclass(frozen=True)
class Measure:
    """One kind of evaluation."""

    title: str
    lead: str
    tables: list[Table]
    charts: list[Markup]


def measures(found: Any) -> list[Measure]:
    """The parts of eval.json by kind; what does not have the evaluation's format is left out."""
    told = []
    for kind, title in TITLES.items():
        of_kind = found.get(kind) if isinstance(found, dict) else None
        if isinstance(of_kind, dict):
            try:
                tables = [t for t in TABLES[kind](of_kind) if t[2]]
                charts = [draw(chart) for chart in _charts(kind, of_kind)]
            except (AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError):
                continue  # a file of another program
            data = of_kind.get("data")
            told.append(Measure(title, f"Measured on {data}." if isinstance(data, str) else "", tables, charts))
    return told


def _charts(kind: str, found: dict[str, Any]) -> list[Chart]:
    if kind == "best_of_n":
        return _choices(found)
    if kind == "search":
        return search_charts(found)
    if kind == "labels":
        return _by_position(found.get("by_position"), "Agreement by step position", {"accuracy": "right or wrong"})
    if kind == "prm":
        charts = []
        for key, words in (("steps", "a step is right"), ("values", "a prefix's value")):
            of = found.get(key) or {}
            charts += _reliability(of.get("reliability") or {}, words)
            names = {"auc": "AUC", "ece": "ECE", "share": "share true"}
            charts += _by_position(of.get("by_position"), f"P({words}) by step position", names)
        return charts
    return []


def _choices(found: dict[str, Any]) -> list[Chart]:
    curves = found["curves"]
    exponents = range(len(found["sizes"]))
    charts = []
    for family, title in (("best", "Best-of-N"), ("weighted", "Weighted majority")):
        names = ["pass", "majority", *(name for name in CURVES if name.startswith(f"{family}/"))]
        lines = [Line(CURVES[name], _points(exponents, curves[name]["mean"])) for name in names if name in curves]
        charts.append(Chart(f"{title}: right answers", tuple(lines), unit="share", x_name="log₂ N", width=440))
    lengths = [Line(how, _points(exponents, values)) for how, values in found["steps"].items()]
    hint = "Above the first value: long responses are preferred; below: short ones."
    charts.append(
        Chart(
            "Steps of the responses that best-of-N selects",
            tuple(lengths),
            unit="steps",
            x_name="log₂ N",
            hint=hint,
            width=440,
        )
    )
    return charts


def _reliability(found: dict[str, Any], words: str) -> list[Chart]:
    predicted, observed = found.get("predicted") or [], found.get("observed") or []
    points = [
        (round(100 * p), y)
        for p, y in zip(map(number, predicted), map(number, observed), strict=True)
        if p is not None and y is not None
    ]
    if not points:
        return []
    lines = (Line("observed", list(points)), Line("perfect", [(0, 0.0), (100, 1.0)]))
    return [
        Chart(
            f"Reliability: P({words})",
            lines,
            unit="share",
            hint="Below the straight line the model is overconfident.",
            x_name="predicted, %",
            x_range=(0, 100),
            zero=True,
        )
    ]


def _by_position(rows: Any, title: str, names: dict[str, str]) -> list[Chart]:
    if not isinstance(rows, list) or len(rows) < 2:
        return []
    lines = [
        Line(name, _points([int(row["position"]) + 1 for row in rows], [row.get(key) for row in rows]))
        for key, name in names.items()
    ]
    x_name = f"step ({MOST_POSITIONS + 1}: all that follow)" if len(rows) > MOST_POSITIONS else "step"
    return [Chart(title, tuple(lines), x_name=x_name)]


def _points(xs: Any, values: Any) -> Points:
    return [(int(x), number(y)) for x, y in zip(xs, values, strict=True)]
