"""study.html: the claim, charts with intervals, the tables, and the command of every run."""

import dataclasses
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from stepjax.errors import UserError
from stepjax.report.charts import Chart, Line, draw
from stepjax.report.series import Points
from stepjax.studies.study import Found, Study, Table
from stepjax.studies.study_jobs import Unit
from stepjax.studies.study_tables import summed_up

STYLE = "main { padding-top: 28px; } h2 { font-size: 17px; margin-top: 28px; } td + td { white-space: nowrap; }"
"""Beside the report's own."""


def charts_of(study: Study, found: Found) -> list[Chart]:
    """A chart for each measure that is drawn: the mean of each row over the columns that are numbers."""
    charts = []
    there = list(dict.fromkeys(arm.row for arm in found))
    rows = [row for row in study.lines if row in there] or there  # a reduced study may have none of them
    for name in study.drawn:
        lines = []
        for row in rows:
            points: Points = []
            spread: list[tuple[int, float, float]] = []
            for arm in found:
                if arm.row != row or not arm.column.isdecimal():
                    continue
                of = summed_up(found, arm, name)
                points.append((int(arm.column), of.mean if np.isfinite(of.mean) else None))
                if np.isfinite(of.low):
                    spread.append((int(arm.column), of.low, of.high))
            if any(y is not None for _, y in points):
                lines.append(Line(row, points, spread=tuple(spread)))
        if lines:
            of_it, shown = study.measures[name], tuple(lines[:6])
            chart = Chart(of_it.words, shown, unit=of_it.unit, x_name=study.x_name, width=440)
            charts.append(dataclasses.replace(chart, log=of_it.log, zero=not of_it.log))
    return charts + list(study.charts(found) if study.charts is not None else ())


def write_page(
    path: Path,
    study: Study,
    found: Found,
    tables: Sequence[Table],
    facts: Mapping[str, Any],
    units: Sequence[Unit],
) -> Path:
    """Writes the page; UserError where it cannot be written."""
    parts = [Markup("<h1>{}</h1><p><em>{}</em></p>").format(study.title, study.claim)]
    if facts["quick"]:
        parts.append(Markup("<p><strong>A reduced study (--quick): its figures are no result.</strong></p>"))
    drawn = Markup("").join(draw(chart) for chart in charts_of(study, found))
    if drawn:
        parts.append(Markup('<div class="charts">{}</div>').format(drawn))
    parts += [_table(table) for table in tables]
    parts.append(_runs(facts, units))
    style = resources.files("stepjax.report").joinpath("page.css").read_text(encoding="utf-8")
    head = Markup("<!doctype html><html lang='en'><meta charset='utf-8'><title>{}</title><style>{}</style>")
    page = head.format(study.title, Markup(style + STYLE)) + Markup("<main>{}</main></html>").format(
        Markup("\n").join(parts)
    )
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
    return path


def _table(table: Table) -> Markup:
    title, columns, rows = table
    head = Markup("").join(Markup("<th>{}</th>").format(column) for column in columns)
    body = Markup("").join(
        Markup("<tr>{}</tr>").format(Markup("").join(Markup("<td>{}</td>").format(cell) for cell in row))
        for row in rows
    )
    whole = Markup('<table class="figures"><thead><tr>{}</tr></thead><tbody>{}</tbody></table>').format(head, body)
    return Markup('<h2>{}</h2><div style="overflow-x:auto">{}</div>').format(title, whole)


def _runs(facts: Mapping[str, Any], units: Sequence[Unit]) -> Markup:
    versions = ", ".join(f"{name} {value}" for name, value in facts["versions"].items())
    machine = facts["machine"]
    where = f"{machine['cores']} cores ({machine['processor']}, {machine['system']}); {versions}"
    failed = [unit.job for unit in units if unit.job.status != 0]
    lines = [Markup("<h2>Runs</h2><p>{}</p><pre>{}</pre>").format(where, facts["command"])]
    for job in failed:
        what = "was not started" if job.status is None else f"failed with status {job.status}: {job.last_line}"
        lines.append(Markup("<p><strong>{} {}</strong> ({})</p>").format(job.name, what, str(job.log_path)))
    commands = "\n".join(unit.command for unit in units)
    lines.append(Markup("<details><summary>Each run by hand</summary><pre>{}</pre></details>").format(commands))
    return Markup("").join(lines)
