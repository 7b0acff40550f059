"""Tables of a study: means over seeds with bootstrap intervals, and differences paired by seed."""

from collections.abc import Sequence

import numpy as np

from stepjax.measures.over_seeds import Summary, paired, summary
from stepjax.studies.study import Arm, Found, Measure, Plan, Study, Table

DASH = "–"


def of_seeds(found: Found, arm: Arm, measure: str) -> dict[int, float]:
    """A measure of every seed that has it."""
    return {seed: figures[measure] for seed, figures in found.get(arm, {}).items() if measure in figures}


def summed_up(found: Found, arm: Arm, measure: str) -> Summary:
    """Mean and interval over seeds of one measure of an arm."""
    return summary(list(of_seeds(found, arm, measure).values()))


def shown(of: Summary, measure: Measure) -> str:
    """`0.57 [0.55, 0.59]`; shares in percent; without an interval where there is none."""
    if not np.isfinite(of.mean):
        return DASH
    scale, sign = (100.0, " %") if measure.unit == "share" else (1.0, "")
    digits = 1 if measure.unit == "share" else measure.digits

    def number(x: float) -> str:
        text = f"{scale * x:.{digits}f}"
        return (text.lstrip("-") if not text.strip("-0.") else text).replace("-", "−")

    text = number(of.mean)
    return f"{text}{sign}" if np.isnan(of.low) else f"{text} [{number(of.low)}, {number(of.high)}]{sign}"


def rows_of(plan: Plan) -> list[str]:
    """The rows, in order."""
    return list(dict.fromkeys(arm.row for arm in plan.arms))


def columns_of(plan: Plan) -> list[str]:
    """The columns, in order."""
    return list(dict.fromkeys(arm.column for arm in plan.arms))


def tables_of(study: Study, plan: Plan, found: Found) -> list[Table]:
    """One table of all measures where nothing is swept, else one a measure; then the differences."""
    arms = {(arm.row, arm.column): arm for arm in plan.arms}
    rows, columns = rows_of(plan), columns_of(plan)
    heads = [f"{study.x_name} = {column}" if study.x_name else column for column in columns]
    seeds = len({seed for by_seed in found.values() for seed in by_seed})
    note = f"mean [95 % bootstrap interval], {seeds} seed{'s' * (seeds != 1)}"
    tables: list[Table] = []
    if columns == [""]:
        cells = [
            [row, *(shown(summed_up(found, arms[row, ""], name), of) for name, of in study.measures.items())]
            for row in rows
        ]
        tables.append((f"{study.name}; {note}", ["arm", *(of.words for of in study.measures.values())], cells))
    else:
        for name, of in study.measures.items():
            cells = []
            for row in rows:
                there = [arms.get((row, column)) for column in columns]
                line = [DASH if arm is None else shown(summed_up(found, arm, name), of) for arm in there]
                if set(line) != {DASH}:
                    cells.append([row, *line])
            if cells:
                tables.append((f"{of.words}; {note}", ["arm", *heads], cells))
    tables += _differences(study, found, arms, columns, heads)
    return tables + list(study.tables(found) if study.tables is not None else ())


def _differences(
    study: Study, found: Found, arms: dict[tuple[str, str], Arm], columns: Sequence[str], heads: list[str]
) -> list[Table]:
    tables: list[Table] = []
    for name, of in study.measures.items():
        cells = []
        for row, reference in study.compared:
            line = []
            for column in columns:
                one, other = arms.get((row, column)), arms.get((reference, column))
                if one is None or other is None:
                    line.append(DASH)
                    continue
                line.append(shown(paired(of_seeds(found, one, name), of_seeds(found, other, name)), of))
            if set(line) != {DASH}:
                cells.append([f"{row} − {reference}", *line])
        if cells:
            named = ["difference"] if columns == [""] else heads
            tables.append((f"{of.words}: differences by seed, mean [95 % bootstrap interval]", ["pair", *named], cells))
    return tables
