"""The charts of the study of labels, on one page without scripts."""

from importlib import resources
from pathlib import Path
from typing import Any

from markupsafe import Markup

from stepjax.errors import UserError
from stepjax.report.charts import Chart, Line, draw
from stepjax.report.series import Points

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
    style = resources.files("stepjax.report").joinpath("page.css").read_text(encoding="utf-8")
    chains = found["chains"]
    worlds = [
        (f"{found['solutions']} solutions of the run's policy", found["completers"]),
        (f"{chains['solutions']} demonstrations of {chains['operations']} operations", chains["completers"]),
    ]
    parts = [Markup("<h1>Labels by completions, against exact ratings</h1>")]
    for title, completers in worlds:
        drawn = Markup("").join(draw(chart) for chart in charts_of(completers))
        parts.append(Markup('<h2>{}</h2><div class="charts">{}</div>').format(title, drawn))
    head = Markup("<!doctype html><html lang='en'><meta charset='utf-8'><title>Labels</title><style>{}</style>")
    page = head.format(Markup(style)) + Markup("<main>{}</main></html>").format(Markup("\n").join(parts))
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
    return path
