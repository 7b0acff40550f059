"""Every metric in a chart: the planned ones in reading order, then all that no plan names, by prefix."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from markupsafe import Markup

from stepjax.report.charts import LINE_TONES, Chart, Line, draw
from stepjax.report.plans import PLANS, Plan
from stepjax.report.series import finite, series
from stepjax.report.text import number, title

Records = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Group:
    """A heading and its charts. `row` is a class of the style sheet: how the charts are arranged."""

    id: str
    title: str
    lead: str
    charts: list[Markup] = field(default_factory=list)
    row: str = ""

    @property
    def size(self) -> int:
        return len(self.charts)


ROWS = {1: ("one", 360), 2: ("two", 360), 4: ("four", 270)}  # charts → class, width of each drawing
TONES = {"good": "good", "neutral": "neutral", "bad": "bad"}


def curves(metrics: Records) -> list[Group]:
    """Every metric in a chart, in reading order: the planned groups, seconds a phase, then all others by prefix."""
    stages: dict[str, list[dict[str, Any]]] = {}
    for record in metrics:
        stages.setdefault(record["stage"], []).append(record)
    left = {stage: _metric_names(records) for stage, records in stages.items()}
    groups = []
    for name, heading, lead, plans in PLANS:
        charts = [chart for plan in plans if plan.stage in stages for chart in _planned(plan, stages, left)]
        groups.append(_group(name, heading, lead, charts))
    groups.append(_group("seconds", "Seconds a phase", "", list(_seconds(stages, left))))
    groups += _others(stages, left)
    return [group for group in groups if group.charts]


def _group(name: str, heading: str, lead: str, charts: list[Chart]) -> Group:
    row, width = ROWS.get(len(charts), ("", 360))
    if name == "outcome":  # one row, whatever the width of the screen
        row, width = ("five together", 226) if len(charts) == 5 else (f"{row} together", width)
    return Group(name, heading, lead, [draw(replace(chart, width=width)) for chart in charts], row)


def _metric_names(records: Records) -> list[str]:
    """Names in the order they first appear; values that are not numbers are not metrics."""
    names: dict[str, None] = {}
    for record in records:
        names |= {k: None for k, v in record.items() if v is None or number(v) is not None or isinstance(v, float)}
    return [name for name in names if name not in ("step", "stage")]


def _chart(stage: str, records: Records, heading: str, keys: dict[str, str], plan: Plan | None = None) -> Chart:
    plan = plan or Plan(stage, heading, keys)
    steps = [record["step"] for record in records]
    return Chart(
        title=heading,
        lines=tuple(Line(name, series(records, key), TONES.get(name, "")) for key, name in keys.items()),
        unit=plan.unit,
        hint=plan.hint,
        x_name="iteration" if stage == "ppo" else "update",
        x_range=(min(steps), max(steps)),
        log=plan.log,
        zero=plan.zero or plan.unit == "share",
    )


def _planned(plan: Plan, stages: dict[str, list[dict[str, Any]]], left: dict[str, list[str]]) -> list[Chart]:
    """The charts of one plan; removes their metrics from `left`."""
    keys: dict[str, str] = {}
    for key, name in plan.keys.items():
        found = [k for k in left[plan.stage] if (k.startswith(key[:-1]) if key.endswith("/*") else k == key)]
        keys |= {k: name or k.removeprefix(key[:-1]) for k in found}
        left[plan.stage] = [k for k in left[plan.stage] if k not in found]
    records = stages[plan.stage]
    if plan.each:
        return [_chart(plan.stage, records, f"{plan.title}: {name}", {key: name}, plan) for key, name in keys.items()]
    # A group of one line has no key: its title names the line.
    alone = len(keys) == 1 and any(key.endswith("/*") for key in plan.keys)
    heading = f"{plan.title}: {next(iter(keys.values()))}" if alone else plan.title
    return [_chart(plan.stage, records, heading, part, plan) for part in _split(keys)]


def _split(keys: dict[str, str]) -> list[dict[str, str]]:
    """At most as many lines per chart as there are tones."""
    items, size = list(keys.items()), len(LINE_TONES)
    return [dict(items[i : i + size]) for i in range(0, len(items), size)]


def _seconds(stages: dict[str, list[dict[str, Any]]], left: dict[str, list[str]]) -> list[Chart]:
    charts = []
    for stage in stages:
        plan = Plan(
            stage, f"{title(stage)}: seconds a phase", {"seconds/*": "", "seconds": "all"}, unit="seconds", zero=True
        )
        charts += _planned(plan, stages, left)
    return charts


def _others(stages: dict[str, list[dict[str, Any]]], left: dict[str, list[str]]) -> list[Group]:
    """A chart per metric, because their scales are unknown; a group per prefix."""
    groups: dict[str, list[Chart]] = {}
    for stage, names in left.items():
        for key in names:
            prefix = f"{title(stage)} · {key.split('/')[0]}".removeprefix(" · ")
            chart = _chart(stage, stages[stage], key, {key: key})
            if any(finite(line.points) for line in chart.lines):
                groups.setdefault(prefix, []).append(chart)
    return [_group(f"other-{i}", f"Other: {name}", "", charts) for i, (name, charts) in enumerate(groups.items(), 1)]
