"""Comparison of finished runs: one row per configuration, mean and standard deviation over its seeds."""

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stepjax.errors import UserError
from stepjax.measures.policy import POLICY_MEASURES
from stepjax.report.text import number
from stepjax.workdir.folder import CONFIG

APART = ("seed", "base")
"""Options in which the runs of one row may differ: repetitions of the same experiment."""
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


def read_run(workdir: Path) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """The options of an evaluated run and its figures by stage.

    Raises:
      UserError: the folder is not a work directory, or has no evaluation yet.
    """
    found = []
    for name, remedy in ((CONFIG, "name a work directory"), ("eval.json", "run `stepjax eval` in it first")):
        try:
            content = json.loads((workdir / name).read_text(encoding="utf-8"))
            found.append(content if name == CONFIG else _figures(content["rows"]))
            if not isinstance(content, dict):
                raise TypeError("not an object")
        except OSError as error:
            raise UserError(f"{workdir / name} cannot be read ({error.strerror}); {remedy}") from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise UserError(f"{workdir / name} is not what stepjax writes; {remedy}") from None
    return found[0], found[1]


def _figures(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """The numbers of each stage. KeyError where no stage was evaluated."""
    stages = {s: {k: x for k, v in row.items() if (x := number(v)) is not None} for s, row in rows.items()}
    if not stages:
        raise KeyError("rows")
    return stages


def compare(workdirs: Sequence[Path]) -> list[dict[str, Any]]:
    """One entry per row: `name`, `runs`, and `figures`, a (mean, spread) by figure; the spread of one run is None.

    The spread is the standard deviation over runs (n − 1). The first row is their starting point, each
    distinct one once. A row is named by its folder names without the number at their end.
    """
    groups: dict[str, list[tuple[str, dict[str, float]]]] = {}
    starts: dict[str, dict[str, float]] = {}
    for workdir in workdirs:
        config, stages = read_run(workdir)
        last = list(stages)[-1]
        same = json.dumps({k: v for k, v in config.items() if k not in APART}, sort_keys=True)
        groups.setdefault(same, []).append(
            (workdir.name.rstrip("0123456789").rstrip("-_.") or workdir.name, stages[last])
        )
        if "sft" in stages and last != "sft":
            starts[json.dumps(stages["sft"], sort_keys=True)] = stages["sft"]
    rows = [_row("after SFT", starts.values())] if starts else []
    return rows + [_row(found[0][0], [figures for _, figures in found]) for found in groups.values()]


def _row(name: str, runs: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    runs = list(runs)
    figures = {}
    for key in LABELS:
        values = [run[key] for run in runs if run.get(key) is not None]
        if values:
            figures[key] = (statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None)
    return {"name": name, "runs": len(runs), "figures": figures}


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
