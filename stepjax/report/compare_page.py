"""The page of a comparison: its tables, the curves of all rows laid over each other, the same problems side by side."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from stepjax.config import POLICIES
from stepjax.report import template
from stepjax.report.charts import LINE_TONES, Chart, Line, draw
from stepjax.report.compare import Compared, Row, as_text, compare, differences, unevaluated
from stepjax.report.held_out import FILTERS, Heard, Side, side_of
from stepjax.report.plans import named
from stepjax.report.read import firsts, merge_records, read_lines
from stepjax.report.series import Points, finite
from stepjax.report.text import marked, number

MOST_PROBLEMS = 12
FIRST = ("true/accuracy", "reward/", "true/", "kl/", "hack/")
"""Metrics of PPO that the page opens with; it folds the others away."""


@dataclass(frozen=True)
class ComparedProblem:
    """A problem, and the response of each row, which its `stage` names."""

    problem: Markup
    answer: Markup
    answers: list[Side]


def write_comparison(rows: Sequence[Row], path: Path) -> Path:
    """Writes the page. UserError where it cannot be written; it is written whole or not at all."""
    lines, charts, problems = line_names(rows), overlaid(rows), side_by_side(rows)
    page = template.render(
        "compare.html.j2",
        rows=[(label, row.name.partition(": ")[2], tone) for row, (label, tone) in zip(rows, lines, strict=True)],
        labels={row.name: label for row, (label, _) in zip(rows, lines, strict=True)},
        table=as_text(compare(rows)),
        differences=differences(rows),
        missing=unevaluated(rows),
        first=[draw(chart) for metric, chart in charts if metric.startswith(FIRST)],
        others=[draw(chart) for metric, chart in charts if not metric.startswith(FIRST)],
        problems=problems,
        filters=FILTERS,
        rated=any(step.mark for asked in problems for side in asked.answers for step in side.steps),
        scored=any(step.p for asked in problems for side in asked.answers for step in side.steps),
    )
    return template.write(page, path)


def line_names(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """What each row is called on the page, without its options, and the tone of its lines. Folders of one name are
    numbered."""
    folders = [row.name.partition(": ")[0] for row in rows]
    labels = [f if folders.count(f) == 1 else f"{f} ({folders[: i + 1].count(f)})" for i, f in enumerate(folders)]
    return [(label, LINE_TONES[i % len(LINE_TONES)]) for i, label in enumerate(labels)]


def overlaid(rows: Sequence[Row]) -> list[tuple[str, Chart]]:
    """The charts, each with its metric: one for each metric of PPO, a line for each row, the mean over its runs. Where
    there are more rows than tones, several charts."""
    curves = [_means([_records(run) for run in row.runs]) for row in rows]
    names = list(dict.fromkeys(name for of in curves for name in of))
    names.sort(key=lambda name: next((i for i, start in enumerate(FIRST) if name.startswith(start)), len(FIRST)))
    told, charts = line_names(rows), []
    for name in names:
        lines = [
            Line(label, of[name], tone)
            for (label, tone), of in zip(told, curves, strict=True)
            if finite(of.get(name, []))
        ]
        for at in range(0, len(lines), len(LINE_TONES)):
            part = tuple(lines[at : at + len(LINE_TONES)])
            title, unit = named("ppo", name)
            charts.append(
                (name, Chart(title, part, unit=unit, x_name="iteration", zero=unit == "share", keyed=len(rows) > 1))
            )
    return charts


def _records(run: Compared) -> list[dict[str, Any]]:
    """The records of a run's stage ppo."""
    return [
        record for record in merge_records(read_lines(run.workdir / "metrics.jsonl", [])) if record["stage"] == "ppo"
    ]


def _means(runs: Sequence[Sequence[dict[str, Any]]]) -> dict[str, Points]:
    """By metric, the mean over runs at each step that has it."""
    found: dict[str, dict[int, list[float]]] = {}
    for records in runs:
        for record in records:
            for name, value in record.items():
                timing = name.startswith(("seconds", "rate/")) or name in ("step", "stage")
                if not timing and (x := number(value)) is not None:
                    found.setdefault(name, {}).setdefault(record["step"], []).append(x)
    return {name: [(step, statistics.mean(of[step])) for step in sorted(of)] for name, of in found.items()}


def side_by_side(rows: Sequence[Row], most: int = MOST_PROBLEMS) -> list[ComparedProblem]:
    """Held-out problems to which the first evaluated run of each row has a response, those with different grades first;
    the later stage's response counts."""
    answered = [
        (label, of)
        for row, (label, _) in zip(rows, line_names(rows), strict=True)
        if (of := next(filter(None, map(_responses, row.runs)), {}))
    ]
    if not answered:
        return []
    shared = [key for key in answered[0][1] if all(key in of for _, of in answered)]
    shared.sort(key=lambda key: len({of[key].get("correct") is True for _, of in answered}) == 1)
    return [
        ComparedProblem(
            marked(str(answered[0][1][key].get("problem", ""))),
            marked(str(answered[0][1][key].get("answer", "")), 400),
            [_side(name, of[key]) for name, of in answered],
        )
        for key in shared[:most]
    ]


def _responses(run: Compared) -> dict[str, dict[str, Any]]:
    """The evaluation's responses of the last stage by id."""
    for stage in reversed(POLICIES):
        paths = sorted((run.workdir / "responses").glob(f"{stage}-*.jsonl"))
        if found := {str(row.get("id")): row for path in paths for row in firsts(read_lines(path, []))}:
            return found
    return {}


def _side(row: str, response: dict[str, Any]) -> Side:
    heard = Heard.of(response)
    return side_of(row, heard, [name for name, (_, passes) in FILTERS.items() if passes(heard)])
