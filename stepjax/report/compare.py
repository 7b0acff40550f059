"""Comparison of runs: one row per configuration, mean and standard deviation over its seeds, differences by seed."""

import json
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stepjax.errors import UserError
from stepjax.measures.intervals import paired_interval
from stepjax.measures.policy import POLICY_MEASURES
from stepjax.report.differing import differing, in_short, same_experiment
from stepjax.report.text import number
from stepjax.workdir.folder import CONFIG

LABELS = {
    "accuracy": "right answers",
    "trace_error": "trace error",
    "neutral": "neutral",
    "bad": "bad",
    "limit_kept": "limit kept",
    "steps": "steps",
    "tokens": "tokens",
    "truncated": "truncated",
}
UNITS = {key: unit for key, _, unit, _ in POLICY_MEASURES}
PAIRED = ("accuracy", "trace_error", "steps")
"""Figures whose differences are shown."""


@dataclass(frozen=True)
class Compared:
    """A run: its options, its figures by stage (none where it was not evaluated), and why it has none."""

    workdir: Path
    config: dict[str, Any]
    stages: dict[str, dict[str, float]]
    lacks: str = ""

    @property
    def last(self) -> dict[str, float]:
        """The figures of its last stage."""
        return self.stages[list(self.stages)[-1]] if self.stages else {}


@dataclass
class Row:
    """Runs of one experiment."""

    name: str
    runs: list[Compared] = field(default_factory=list)

    @property
    def evaluated(self) -> list[Compared]:
        return [run for run in self.runs if run.stages]

    def by_seed(self, key: str) -> dict[int, float]:
        """The mean of a figure over the runs of each seed."""
        found: dict[int, list[float]] = {}
        for run in self.evaluated:
            if key in run.last:
                found.setdefault(int(number(run.config.get("seed")) or 0), []).append(run.last[key])
        return {seed: statistics.mean(values) for seed, values in found.items()}


def read_run(workdir: Path) -> Compared:
    """A run's options and figures. UserError where the folder is not a work directory."""
    try:
        config = json.loads((workdir / CONFIG).read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise TypeError("not an object")
    except OSError as error:
        raise UserError(f"{workdir / CONFIG} cannot be read ({error.strerror}); name a work directory") from None
    except (ValueError, TypeError, RecursionError):
        raise UserError(f"{workdir / CONFIG} is not what stepjax writes; name a work directory") from None
    try:
        content = json.loads((workdir / "eval.json").read_text(encoding="utf-8"))
    except OSError:
        return Compared(workdir, config, {}, "not evaluated")
    except (ValueError, RecursionError):
        return Compared(workdir, config, {}, "eval.json is damaged")
    try:
        return Compared(workdir, config, _figures(content["rows"]))
    except (KeyError, TypeError, AttributeError):
        return Compared(workdir, config, {}, "eval.json holds no evaluation of its policies")


def _figures(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """The numbers of each stage. KeyError where no stage was evaluated."""
    stages = {s: {k: x for k, v in row.items() if (x := number(v)) is not None} for s, row in rows.items()}
    if not stages:
        raise KeyError("rows")
    return stages


def experiments(workdirs: Sequence[Path]) -> list[Row]:
    """The runs, those of one experiment in a row; a row is named by its folder and the options in which it differs."""
    groups: dict[str, list[Compared]] = {}
    for workdir in {w.resolve(): w for w in workdirs}.values():  # one that is named twice is one run
        run = read_run(workdir)
        groups.setdefault(json.dumps(same_experiment(run.config), sort_keys=True), []).append(run)
    options = differing([same_experiment(runs[0].config) for runs in groups.values()])
    return [Row(in_short(_folder(runs), changed), runs) for runs, changed in zip(groups.values(), options, strict=True)]


def _folder(runs: Sequence[Compared]) -> str:
    """The name of the first run's folder, without the number at its end where that is its seed or tells the runs of the
    row apart."""
    name = runs[0].workdir.resolve().name
    match = re.search(r"([-_.](s|seed))?(\d+)$", name)
    if match is None or (len(runs) == 1 and int(match[3]) != number(runs[0].config.get("seed"))):
        return name
    return name[: match.start()].rstrip("-_.") or name


def compare(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One entry per row: `name`, `runs`, and `figures`, a (mean, spread) by figure; the spread of one run is None.

    The spread is the standard deviation over runs (n − 1). The first row is their starting point, each distinct one
    once. Rows without an evaluated run are left out.
    """
    starts: dict[str, dict[str, float]] = {}
    for run in (run for row in rows for run in row.evaluated):
        if "sft" in run.stages and len(run.stages) > 1:
            starts[json.dumps(run.stages["sft"], sort_keys=True)] = run.stages["sft"]
    found = [_entry("after SFT", starts.values())] if starts else []
    return found + [_entry(row.name, [run.last for run in row.evaluated]) for row in rows if row.evaluated]


def _entry(name: str, runs: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    runs = list(runs)
    figures = {}
    for key in LABELS:
        values = [run[key] for run in runs if run.get(key) is not None]
        if values:
            figures[key] = (statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None)
    return {"name": name, "runs": len(runs), "figures": figures}


def differences(rows: Sequence[Row]) -> list[list[str]]:
    """Header and rows of the differences to the first row, each between runs of the same seed: mean and its 95 %
    interval by Student's t. Empty where no seed is in both."""
    keys = [key for key in PAIRED if rows and rows[0].by_seed(key)]
    lines = []
    for row in rows[1:]:
        cells, pairs = [], 0
        for key in keys:
            first, other = rows[0].by_seed(key), row.by_seed(key)
            values = [other[seed] - first[seed] for seed in first if seed in other]
            pairs = max(pairs, len(values))
            cells.append(_change(values, UNITS[key]))
        if pairs:
            lines.append([row.name, str(pairs), *cells])
    return [["", "seeds", *(LABELS[key] for key in keys)], *lines] if lines else []


def _change(values: Sequence[float], unit: str) -> str:
    if not values:
        return "–"
    scale, digits = (100.0, 1) if unit == "share" else (1.0, 2)
    mean, low, high = (scale * x for x in paired_interval(values))
    interval = f" [{low:+.{digits}f}, {high:+.{digits}f}]" if len(values) > 1 else ""
    return f"{mean:+.{digits}f}{interval}" + (" points" if unit == "share" else "")


def unevaluated(rows: Sequence[Row]) -> list[str]:
    """A line for each run without figures: why, and what to do."""
    return [
        f"{run.workdir}: {run.lacks}; `stepjax eval --workdir={run.workdir}`"
        for row in rows
        for run in row.runs
        if not run.stages
    ]


def as_text(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Header and rows of the table."""
    keys = [key for key in LABELS if any(key in row["figures"] for row in rows)]
    lines = [["", "runs", *(LABELS[key] for key in keys)]]
    for row in rows:
        shown = [_shown(row["figures"].get(key), UNITS[key]) for key in keys]
        lines.append([row["name"], str(row["runs"]), *shown])
    return lines


def _shown(figure: tuple[float, float | None] | None, unit: str) -> str:
    if figure is None:
        return "–"
    scale, digits = (100.0, 1) if unit == "share" else (1.0, 1 if figure[0] >= 10 else 2)
    mean = f"{scale * figure[0]:.{digits}f}"
    spread = "" if figure[1] is None else f" ± {scale * figure[1]:.{digits}f}"
    return mean + spread + (" %" if unit == "share" else "")


def as_markdown(lines: Sequence[Sequence[str]]) -> str:
    header, *body = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([header, "| " + " | ".join("---" for _ in lines[0]) + " |", *body])
