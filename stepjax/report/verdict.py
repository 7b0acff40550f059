"""Summary of a run's figures: a sentence, a table before and after, a warning of reward hacking."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from stepjax.measures.intervals import wilson
from stepjax.measures.policy import POLICY_MEASURES
from stepjax.report.series import finite, series
from stepjax.report.text import change, figure, number, title

ORDER = ("base", "pretrained", "sft", "prm", "improve", "ppo")


@dataclass(frozen=True)
class Cell:
    """A figure with its interval in words ("" where none is known) and, for shares, the length of its bar."""

    text: str
    interval: str
    bar: float | None


@dataclass(frozen=True)
class Row:
    """A measure over the stages. `trend` is "better", "worse" or "" (neither way is better, or no clear change)."""

    name: str
    cells: list[Cell]
    change: str
    trend: str


@dataclass(frozen=True)
class Table:
    """The table before and after; `compared` names the two stages of the last column, or is ""."""

    stages: list[str]
    rows: list[Row]
    compared: str


def _stages(evaluation: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The evaluated stages in the order of training."""
    rows = evaluation.get("rows")
    known = {k: v for k, v in rows.items() if isinstance(v, dict)} if isinstance(rows, dict) else {}
    return dict(sorted(known.items(), key=lambda item: _place(item[0])))


def _place(stage: str) -> int:
    return ORDER.index(stage) if stage in ORDER else len(ORDER)


def ends(stages: Collection[str]) -> tuple[str, str]:
    """The two stages that are compared, of at least one: the first one, and PPO (or the last one)."""
    names = sorted(stages, key=_place)
    return names[0], "ppo" if "ppo" in names else names[-1]


def interval(
    row: dict[str, Any], name: str, unit: str = "", problems: float | None = None
) -> tuple[float, float] | None:
    """The interval of a measure of an evaluated stage; None where none is known.

    Evaluations of earlier versions have one of right answers at most: that of another share is then Wilson's, as if
    each of the `problems` had one term of it, which a share of steps has more of.
    """
    ends = row.get(f"{name}_interval")
    if isinstance(ends, list) and len(ends) == 2:
        low, high = number(ends[0]), number(ends[1])
        if low is not None and high is not None:
            return low, high
    value = number(row.get(name))
    earlier = not any(key.endswith("_interval") for key in row if key != "accuracy_interval")
    if earlier and unit == "share" and problems and value is not None and 0 <= value <= 1:
        return wilson(value * problems, round(problems))
    return None


def _apart(a: tuple[float, float] | None, b: tuple[float, float] | None) -> bool | None:
    """Whether two intervals do not overlap; None where one is unknown."""
    return None if a is None or b is None else a[1] < b[0] or b[1] < a[0]


def before_after(evaluation: dict[str, Any]) -> Table | None:
    """The evaluated measures, a column a stage; None where nothing was evaluated."""
    stages = _stages(evaluation)
    if not stages:
        return None
    before, after = ends(stages)
    problems = number(evaluation.get("problems"))
    named = {name for name, *_ in POLICY_MEASURES}
    extra = [k for row in stages.values() for k, v in row.items() if k not in named and number(v) is not None]
    measures = [*POLICY_MEASURES, *((name, name.replace("_", " "), "", 0) for name in dict.fromkeys(extra))]
    rows = []
    for name, words, unit, better in measures:
        values = {stage: number(row.get(name)) for stage, row in stages.items()}
        if all(value is None for value in values.values()):
            continue
        cells = [_cell(stages[stage], name, value, unit) for stage, value in values.items()]
        difference, trend = "", ""
        low, high = values[before], values[after]
        if before != after and low is not None and high is not None:
            difference = change(low, high, unit)
            apart = _apart(*(interval(stages[stage], name, unit, problems) for stage in (before, after)))
            certain = apart or (apart is None and unit == "share")  # of shares without a count nothing else is known
            if apart is False and difference != "no change":
                difference += ", intervals overlap"
            elif certain and better and difference != "no change":
                trend = "better" if (high > low) == (better > 0) else "worse"
        rows.append(Row(words, cells, difference, trend))
    return Table([title(s) for s in stages], rows, f"{title(before)} → {title(after)}" if before != after else "")


def _cell(row: dict[str, Any], name: str, value: float | None, unit: str) -> Cell:
    ends = interval(row, name)
    words = "" if ends is None else f"{figure(ends[0], unit).rstrip('%')} to {figure(ends[1], unit)}"
    return Cell(figure(value, unit), words, min(max(value, 0), 1) if unit == "share" and value is not None else None)


def verdict(metrics: Sequence[dict[str, Any]], evaluation: dict[str, Any]) -> str:
    """One sentence of figures: right answers before and after, and the share of wrong steps."""
    stages = {k: row for k, row in _stages(evaluation).items() if number(row.get("accuracy")) is not None}
    if not stages:
        return _training_verdict(metrics)
    before, after = ends(stages)
    problems = number(evaluation.get("problems"))
    split = evaluation.get("split")
    where = f"{problems:,.0f} {split if isinstance(split, str) else ''} problems".replace("  ", " ") if problems else ""
    low, high = stages[before]["accuracy"], stages[after]["accuracy"]
    if before == after:
        return f"{figure(low, 'share')} of answers are right after {title(before)}{f' on {where}' if where else ''}."
    apart = _apart(interval(stages[before], "accuracy"), interval(stages[after], "accuracy"))
    overlap = {None: "", True: "; the intervals do not overlap", False: "; the intervals overlap"}[apart]
    parts = [
        f"Right answers {_moved(low, high, f'after {title(before)}', f'after {title(after)}')}"
        f"{f' on {where}' if where else ''} ({change(low, high, 'share')}{overlap})"
    ]
    for name, words in (("trace_error", "right answers with a wrong step"), ("holds", "calculations that hold")):
        a, b = number(stages[before].get(name)), number(stages[after].get(name))
        if a is not None and b is not None:
            parts.append(f"the share of {words} {_moved(a, b)}")
    return "; ".join(parts) + "."


def _training_verdict(metrics: Sequence[dict[str, Any]]) -> str:
    """Without an evaluation, the graded responses of the training itself."""
    points = finite(series([r for r in metrics if r.get("stage") == "ppo"], "true/accuracy"))
    if len(points) < 2:
        return "Nothing has been evaluated yet, so there is no figure before and after."
    (x0, y0), (x1, y1) = points[0], points[-1]
    moved = _moved(y0, y1, f"at PPO iteration {x0}", f"at iteration {x1}")
    return f"Not evaluated yet. Among the training's own responses, right answers {moved}."


def _moved(a: float, b: float, at_a: str = "", at_b: str = "") -> str:
    """Two shares in words: "rose from 10.0% (at_a) to 20.0% (at_b)"."""
    before, after = figure(a, "share"), figure(b, "share")
    if before == after:
        return f"stayed at {before} {at_a and f'{at_a} and {at_b}'}".rstrip()
    return " ".join(f"{'rose' if b > a else 'fell'} from {before} {at_a} to {after} {at_b}".split())
