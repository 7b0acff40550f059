"""The searches of `stepjax eval --config.kind=search`: tables for terminal and report, and the report's charts."""

from collections.abc import Mapping
from typing import Any

from stepjax.report.cells import DASH, Table, count, decimal, items, part, percent, rows_of, share
from stepjax.report.charts import Chart, Line
from stepjax.report.series import Points
from stepjax.report.text import number

EASES = {"pass": "by pass@1, which knows the answers", "score": "by the mean score"}
COSTS = {
    "generated": "written",
    "prefilled": "prefilled",
    "computed_again": "read again",
    "read": "read by the PRM",
    "flops": "FLOPs",
}
"""Of a search's cost, by name: the columns of tables."""


def search_tables(found: dict[str, Any]) -> list[Table]:
    """A table a scorer; the least budgets; the choice by difficulty; scores against truth."""
    where = f"{count(found.get('problems'))} {found.get('split')} problems from {found.get('stage')}"
    tables: list[Table] = []
    for prm in found.get("prms") or []:
        cells = [row for row in rows_of(found.get("cells")) if row.get("prm") == prm]
        columns = ["method", "n", "right, %", "95 %", "− best_of_n", "95 %", "any right, %", "score"]
        tables.append((f"{_scored(found, prm)}: {where}", columns, [_accuracy(row, found) for row in cells]))
        columns = ["method", "n", "length", "steps", *COSTS.values()]
        title = f"Tokens a problem, prm={prm}; length and steps of the chosen response"
        tables.append((title, columns, [_cost(row) for row in cells]))
    tables.append(_least(found))
    for prm, of in items(found.get("optimal")).items():
        tables += [table for by in EASES for table in _by_difficulty(prm, of, by)]
    for prm, of in items(found.get("over")).items():
        sizes = [count(n) for n in of.get("sizes") or []]
        lines = {"kl": "KL, at most", "score": "score", "right": "right", "any_right": "any right"}
        rows = [[words, *(decimal(x) for x in of.get(key) or [])] for key, words in lines.items()]
        tables.append((f"The highest score of N whole responses, prm={prm}: score and truth", ["", *sizes], rows))
    return tables


def _scored(found: Mapping[str, Any], prm: Any) -> str:
    is_oracle = prm in (found.get("oracles") or [])
    return f"prm={prm}" + (": an oracle run, which knows what is right" if is_oracle else "")


def _accuracy(row: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    first = [str(row.get("method")), count(row.get("budget")), percent(row.get("right")), _interval(row, "right")]
    gain = [_signed(row.get("gain")), _interval(row, "gain")] if "gain" in row else ["", ""]
    score = decimal(row.get("score"), 2) if row.get("prm") in (found.get("scored") or []) else DASH
    return [*first, *gain, percent(row.get("any_right")), score]


def _cost(row: Mapping[str, Any]) -> list[str]:
    flops = number(row.get("flops"))
    first = [str(row.get("method")), count(row.get("budget"))]
    first += [decimal(row.get("tokens"), 1), decimal(row.get("steps"), 1)]
    tokens = [count(row.get(name)) for name in COSTS if name != "flops"]
    return [*first, *tokens, DASH if flops is None else f"{flops:.2g}"]


def _interval(row: Mapping[str, Any], name: str) -> str:
    return f"{percent(row.get(f'{name}_low'))} to {percent(row.get(f'{name}_high'))}"


def _signed(value: Any) -> str:
    return DASH if (x := number(value)) is None else f"{100 * x:+.1f}"


def _least(found: dict[str, Any]) -> Table:
    reached = part(found, "reached")
    budgets = items(reached.get("budgets"))
    columns = ["method", *(f"prm={prm}" for prm in budgets)]
    rows = [[method, *(_reached(of.get(method)) for of in budgets.values())] for method in found.get("methods") or []]
    return f"The least n with {share(reached.get('target'))} right, and the tokens written", columns, rows


def _reached(of: Any) -> str:
    return f"{count(of.get('budget'))} ({count(of.get('generated'))})" if isinstance(of, dict) else DASH


def _by_difficulty(prm: str, of: dict[str, Any], by: str) -> list[Table]:
    """What the choice is worth, and which methods are chosen."""
    found = part(part(of, "by"), by)
    budgets, methods = rows_of(found.get("budgets")), of.get("methods") or []
    if not budgets:
        return []
    worth = [
        [count(b.get("budget")), percent(b.get("right")), _interval(b, "right"), percent(b.get("single"))]
        + [_signed(b.get("over_reference")), _interval(b, "over_reference")]
        + [_signed(b.get("over_single")), _interval(b, "over_single"), count(b.get("generated"))]
        for b in budgets
    ]
    columns = ["n", "right, %", "95 %", "one method", "− best_of_n", "95 %", "− one method", "95 %", "written"]
    levels = zip(found.get("problems") or [], found.get("ease") or [], strict=True)
    chosen = [
        [str(level), count(size), decimal(ease, 2), *(_favourite(methods, b["shares"][level - 1]) for b in budgets)]
        for level, (size, ease) in enumerate(levels, 1)
    ]
    names = ["level", "problems", {"pass": "pass@1", "score": "score"}[by]]
    return [
        (f"The best method of each level {EASES[by]}, prm={prm}, chosen on other problems", columns, worth),
        (f"Chosen methods, and how often, {EASES[by]}, prm={prm}", [*names, *(f"n={row[0]}" for row in worth)], chosen),
    ]


def _favourite(methods: list[str], shares: list[float]) -> str:
    best = max(range(len(shares)), key=shares.__getitem__)
    return f"{methods[best]} {100 * shares[best]:.0f} %"


def search_charts(found: dict[str, Any]) -> list[Chart]:
    """Accuracy against tokens and FLOPs, a chart a scorer; score and truth against the distance from the policy."""
    charts = []
    for prm in found["prms"]:
        cells = [row for row in found["cells"] if row["prm"] == prm]
        for key, words in (("generated", "tokens written a problem"), ("flops", "FLOPs a problem")):
            lines = [
                Line(method, _points((row[key], row["right"]) for row in cells if row["method"] == method))
                for method in found["methods"]
            ]
            title = f"Right answers, {_scored(found, prm)}"
            charts.append(Chart(title, tuple(lines), unit="share", x_name=words, x_scale="log", width=440))
    for prm, of in found["over"].items():
        names = {"score": "score", "right": "right", "any_right": "any right"}
        lines = [Line(words, _points(zip(of["kl"], of[key], strict=True))) for key, words in names.items()]
        charts.append(
            Chart(
                f"The highest score of N = 1 … {of['sizes'][-1]} whole responses, prm={prm}",
                tuple(lines),
                unit="share",
                x_name="ln N − (N − 1)/N",
                x_scale="value",
                hint="Where the score rises and right answers do not, the choice exploits the reward model.",
                width=440,
            )
        )
    return charts


def _points(pairs: Any) -> Points:
    return [(float(x), number(y)) for x, y in pairs]
