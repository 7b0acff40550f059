"""The charts of the study of labels, on one page without scripts."""

from pathlib import Path
from typing import Any

from stepjax.report.charts import Chart, Line
from stepjax.report.series import Points
from stepjax.studies.page import write_charts

NAMES = {"hard": "hard", "soft": "soft", "omegaprm": "OmegaPRM"}


def charts_of(completers: dict[str, Any]) -> list[Chart]:
    """A completer's F1 of first errors by N, its completions a solution, and the errors of its hard labels."""
    found = []
    for name, of in completers.items():
        rows = list(of["by_n"].values())
        who = f"{name} completer, right {of['strength']:.0%} of the time"
        lines = tuple(Line(word, _points([row[kind]["f1"] for row in rows])) for kind, word in NAMES.items())
        found.append(Chart(f"F1 of first errors: {who}", lines, unit="share", x_name="log₂ N", zero=True, width=440))
        errors = {"wrong_called_right": "wrong, called right", "right_called_wrong": "right, called wrong"}
        lines = tuple(Line(word, _points([row["steps"]["hard"][key] for row in rows])) for key, word in errors.items())
        found.append(Chart(f"Hard labels of steps: {who}", lines, unit="share", x_name="log₂ N", zero=True, width=440))
        methods = {"monte_carlo": "Monte Carlo", "omegaprm": "OmegaPRM"}
        lines = tuple(Line(w, _points([row["cost"][m]["completions"] for row in rows])) for m, w in methods.items())
        found.append(Chart(f"Completions a solution: {who}", lines, x_name="log₂ N", log=True, width=440))
    return found


def _points(values: list[Any]) -> Points:
    return [(i, None if value is None else float(value)) for i, value in enumerate(values)]


def write_page(path: Path, found: dict[str, Any]) -> Path:
    """Writes the page; UserError where it cannot be written."""
    chains = found["chains"]
    worlds = [
        (f"{found['solutions']} solutions of the run's policy", found["completers"]),
        (f"{chains['solutions']} demonstrations of {chains['operations']} operations", chains["completers"]),
    ]
    parts = [(title, charts_of(completers)) for title, completers in worlds]
    return write_charts(path, "Labels by completions, against exact ratings", parts)
