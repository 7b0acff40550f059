"""Tables of the evaluations of labels and process reward models.

Every `…_tables` function gives (title, columns, rows) triples from the figures in eval.json; terminal and report
print the same ones.
"""

from typing import Any

from stepjax.console.progress import say, table
from stepjax.measures.step_scores import MOST_POSITIONS
from stepjax.report.cells import DASH, Table, count, decimal, items, part, percent, rows_of, share
from stepjax.report.search_curves import search_tables
from stepjax.report.text import number


def labels_tables(found: dict[str, Any]) -> list[Table]:
    reports = {"all": found} | items(found.get("labellers"))
    rows = []
    for name, of in reports.items():
        two, three, first, cost = (part(of, key) for key in ("two", "three", "first_error", "cost"))
        rows.append(
            [name, count(of.get("steps")), share(two.get("accuracy")), decimal(two.get("macro_f1"))]
            + [decimal(two.get("kappa")), decimal(three.get("macro_f1")), decimal(three.get("kappa"))]
            + [share(first.get("error")), share(first.get("correct")), decimal(first.get("has_error"))]
            + [decimal(part(cost, name).get("each"), 1) for name in ("completions", "tokens")]
        )
    columns = [
        "labeller",
        "steps",
        "right/wrong",
        "macro-F1",
        "κ",
        "3-class F1",
        "3-class κ",
        "first error",
        "no error",
    ]
    columns += ["F1 has error", "completions", "tokens"]
    steps = [
        [_position(row), count(row.get("steps")), share(row.get("accuracy")), decimal(row.get("kappa"))]
        for row in rows_of(found.get("by_position"))
    ]
    return [
        ("Labels against gold labels", columns, rows),
        ("Right or wrong, by step position", ["step", "labels", "accuracy", "κ"], steps),
    ]


def prm_tables(found: dict[str, Any]) -> list[Table]:
    tables: list[Table] = []
    rows = []
    for key, name in (("steps", "a step is right"), ("values", "value of a prefix")):
        if of := part(found, key):
            figures = [share(of.get("share")), decimal(of.get("auc")), decimal(of.get("ece")), decimal(of.get("brier"))]
            rows.append([name, count(of.get("steps")), *figures])
    if outcome := part(found, "outcome"):
        for how, value in part(outcome, "auc").items():
            cells = [share(outcome.get("right")), decimal(value), DASH, DASH]
            rows.append([f"right answer, by {how}", count(outcome.get("solutions")), *cells])
    tables.append(("P(right) against the true ratings", ["truth", "cases", "true", "AUC", "ECE", "Brier"], rows))
    for key in ("steps", "values"):
        if lines := rows_of(part(found, key).get("by_position")):
            cells_of = [[share(row.get("share")), decimal(row.get("auc")), decimal(row.get("ece"))] for row in lines]
            steps = [[_position(r), count(r.get("steps")), *c] for r, c in zip(lines, cells_of, strict=True)]
            words = {"steps": "By step position", "values": "Value by step position"}[key]
            tables.append((words, ["step", "cases", "true", "AUC", "ECE"], steps))
    if classes := part(found, "classes"):
        f1 = [[f"F1 {name}", decimal(value)] for name, value in part(classes, "f1").items()]
        rows = [["macro-F1", decimal(classes.get("macro_f1"))], *f1]
        rows += [["accuracy", share(classes.get("accuracy"))], ["κ", decimal(classes.get("kappa"))]]
        tables.append(("Bad, neutral, good as three classes", ["", ""], rows))
    if first := part(found, "first_error"):
        tables.append(("First errors", FIRST, first_error_rows("", first)))
    return tables


FIRST = ["", "solutions", "first error found", "no error found", "F1"]


def first_error_rows(name: str, found: dict[str, Any]) -> list[list[str]]:
    """Fixed threshold, the same without the solutions tuned on, and the tuned one."""
    threshold, tuned = found.get("threshold"), part(found, "tuned")
    rows = []
    for key, words in (
        ("fixed", f"at {decimal(threshold)}"),
        ("fixed_on_rest", f"at {decimal(threshold)}, those not tuned on"),
        ("tuned", f"tuned to {decimal(tuned.get('threshold'))}, those not tuned on"),
    ):
        if of := part(found, key):
            total = (number(of.get("wrong")) or 0) + (number(of.get("right")) or 0)
            figures = [share(of.get("error")), share(of.get("correct")), decimal(of.get("f1"))]
            rows.append([f"{name} {words}".strip(), count(total), *figures])
    return rows


def processbench_tables(found: dict[str, Any]) -> list[Table]:
    rows = first_error_rows("all", part(found, "all"))
    subsets = items(found.get("subsets"))
    if len(subsets) > 1:
        rows += [row for name, of in subsets.items() for row in first_error_rows(name, of)]
        rows.append(["mean of the subsets", "", "", "", decimal(found.get("mean_f1"))])
    return [("ProcessBench", FIRST, rows)]


def prmbench_tables(found: dict[str, Any]) -> list[Table]:
    groups = {"errors of truth": "truth", "errors of usefulness": "usefulness", "all": "all"}
    reports = items(found.get("kinds")) | {name: part(found, key) for name, key in groups.items()}
    rows = [
        [name, count(of.get("solutions")), count(of.get("steps"))]
        + [decimal(of.get(key)) for key in ("f1", "negative_f1", "prm_score")]
        + [share(of.get("first_error"))]
        for name, of in reports.items()
        if number(of.get("solutions"))
    ]
    columns = ["error kind", "solutions", "steps", "F1", "negative F1", "PRM-score", "first error found"]
    return [(f"PRMBench at threshold {decimal(found.get('threshold'))}", columns, rows)]


CURVES = {
    "pass": "pass@N",
    "majority": "majority",
    **{f"best/{how}": f"best, {how}" for how in ("min", "product", "last", "mean")},
    **{f"weighted/{how}": f"weighted, {how}" for how in ("min", "product", "last", "mean")},
}
"""Ways to select: best-of-N by an aggregator of step scores, majority votes weighted by one."""


def best_of_n_tables(found: dict[str, Any]) -> list[Table]:
    sizes = [count(n) for n in found.get("sizes") or []]
    curves = items(found.get("curves"))
    rows = []
    for key, name in CURVES.items():
        if of := curves.get(key):
            means = [percent(value) for value in of.get("mean") or []]
            rows.append([name, *means, "–".join(percent(of[end][-1]) for end in ("low", "high") if of.get(end))])
    steps = [[how, *(decimal(x, 2) for x in values)] for how, values in (found.get("steps") or {}).items()]
    where = f"{count(found.get('problems'))} {found.get('split')} problems, pools of {count(found.get('pool'))}"
    interval = f"95 % at {sizes[-1]}" if sizes else "95 %"
    return [
        (f"Right answers of N, in %: {where} from {found.get('stage')}", ["choice", *sizes, interval], rows),
        ("Steps of the responses that best-of-N selects", ["by", *sizes], steps),
    ]


def suite_tables(found: dict[str, Any]) -> list[Table]:
    """A table a benchmark and stage; k = 1 is avg@n."""
    tables: list[Table] = []
    for name, stages in items(found.get("members")).items():
        for stage, of in items(stages).items():
            samples, sizes = count(of.get("samples")), of.get("sizes") or []
            rows = [_figure_row(f"avg@{samples}" if samples != "1" else "right answers", part(of, "avg"))]
            for key in ("pass", "maj"):
                pairs = zip(sizes, rows_of(of.get(key)), strict=True)
                rows += [_figure_row(f"{key}@{k}", value) for k, value in pairs if k > 1]
            for key, words in (("truncated", "cut off at the limit"), ("unanswered", "without a final answer")):
                rows.append([words, share(of.get(key)), "", ""])
            rows.append(["tokens a response", decimal(of.get("tokens"), 1), "", ""])
            if seen := number(of.get("in_training")):
                rows.append(["problems in the training data", count(seen), "", ""])
                rows.append([f"avg@{samples} without them", share(of.get("avg_without")), "", ""])
            problems = "problem" if of.get("problems") == 1 else "problems"
            how = f"{count(of.get('problems'))} {problems} × {samples}, temperature {decimal(of.get('temperature'), 1)}"
            tables.append((f"{name}, {stage}: {how}", ["", "", "95 %", "interval"], rows))
    return tables


def _figure_row(name: str, of: dict[str, Any]) -> list[str]:
    interval = f"{percent(of.get('low'))} to {percent(of.get('high'))}"
    return [name, share(of.get("value")), interval, str(of.get("interval", ""))]


TABLES = {
    "labels": labels_tables,
    "prm": prm_tables,
    "processbench": processbench_tables,
    "prmbench": prmbench_tables,
    "best_of_n": best_of_n_tables,
    "search": search_tables,
    "suite": suite_tables,
}


def show_measure(kind: str, found: dict[str, Any]) -> None:
    """Prints the tables and notes of one kind."""
    for title, columns, rows in TABLES[kind](found):
        if rows:
            table(title, columns, rows)
    for note in found.get("notes") or []:
        say(note)


def _position(row: dict[str, Any]) -> str:
    at = int(number(row.get("position")) or 0)
    return f"{at + 1}+" if at >= MOST_POSITIONS else str(at + 1)
