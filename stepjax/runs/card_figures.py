"""The figures of a policy for its model card, from eval.json: those of its own checkpoint, with their intervals."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stepjax.measures.policy import POLICY_MEASURES
from stepjax.tasks.benchmarks import BENCHMARKS
from stepjax.workdir.json_file import MEASURES

SHOWN = ("accuracy", "trace_error", "truncated", "tokens")
"""Figures of the held-out problems that a card has."""


@dataclass
class Figures:
    """What was measured.

    Attributes:
      rows: of the card's table: measured on, figure, value, interval.
      results: the same of the accuracies as `huggingface_hub.EvalResult`.
      notes: sentences below the table.
    """

    rows: list[list[str]] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def figures_of(found: Mapping[str, Any], stage: str, step: int | None) -> Figures:
    """Those of a stage's policy at a step (None: the checkpoint as it was loaded) in the contents of eval.json.

    Figures of another step are left out, and a note says so.
    """
    figures = Figures()
    rows, steps = _part(found, "rows"), _part(found, "steps")
    if isinstance(of := rows.get(stage), dict):
        if steps.get(stage, step) == step:
            _held_out(figures, found, of)
        else:
            figures.notes.append(_earlier("The figures on held-out problems", f"step {steps[stage]}", step))
    members = _part(_part(_part(found, MEASURES), "suite"), "members")
    for name, stages in members.items():
        of = stages.get(stage) if isinstance(stages, dict) else None
        if not isinstance(of, dict):
            continue
        if step is not None and of.get("policy") != f"{stage} {step}":
            figures.notes.append(_earlier(f"The figures on {name}", str(of.get("policy")), step))
        else:
            _benchmark(figures, name, of)
    return figures


def _held_out(figures: Figures, found: Mapping[str, Any], of: Mapping[str, Any]) -> None:
    where = f"{found.get('problems')} held-out problems ({found.get('split')}), temperature {found.get('temperature')}"
    for key, words, unit, _ in POLICY_MEASURES:
        if key in SHOWN and of.get(key) is not None:
            interval = _interval(*of["accuracy_interval"]) if key == "accuracy" and "accuracy_interval" in of else ""
            figures.rows.append([where, words, _value(of[key], unit), interval])
    figures.results.append(_result("own", "held-out problems", "accuracy", of["accuracy"]))


def _benchmark(figures: Figures, name: str, of: Mapping[str, Any]) -> None:
    samples = of["samples"]
    where = f"{name}: {of['problems']} problems × {samples}, temperature {of['temperature']}"
    entries = [(f"avg@{samples}", of["avg"])]
    for key in ("pass", "maj"):
        entries += [(f"{key}@{k}", value) for k, value in zip(of["sizes"], of[key], strict=True) if k > 1]
    hub = BENCHMARKS[name].hub.removeprefix("hub:").partition(":")[0] if name in BENCHMARKS else name
    whole = of["problems"] == of.get("total", of["problems"])  # others report the whole, not a part
    for metric, value in entries:
        figures.rows.append([where, metric, _value(value["value"], "share"), _interval(value["low"], value["high"])])
        if whole:
            figures.results.append(_result(hub, name, metric, value["value"]))
    figures.notes += [f"{name}: {note}." for note in of.get("notes") or []]


def _result(kind: str, name: str, metric: str, value: float) -> Any:
    from huggingface_hub import EvalResult

    return EvalResult("text-generation", kind, name, metric, round(value, 6))


def _earlier(what: str, of: str, step: int | None) -> str:
    return f"{what} are of {of}, not of step {step}, and are left out."


def _value(value: float, unit: str) -> str:
    return f"{100 * value:.1f} %" if unit == "share" else f"{value:.1f}"


def _interval(low: float, high: float) -> str:
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def _part(found: Any, key: str) -> dict[str, Any]:
    part = found.get(key) if isinstance(found, Mapping) else None
    return part if isinstance(part, dict) else {}
