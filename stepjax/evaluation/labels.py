"""Evaluation of labels: their agreement with gold labels of the same steps."""

import time
from typing import Any

from stepjax.data.schema import LabelledSolution
from stepjax.errors import UserError
from stepjax.evaluation.records import first_error_of, match, read_records
from stepjax.evaluation.results import write_measure
from stepjax.measures.agreement import LabelPair, agreement_report
from stepjax.report.tables import show_measure
from stepjax.runs.setup import Run


def measure_labels(run: Run) -> dict[str, Any]:
    """Agreement of `eval.data` with `eval.gold`, in total and by labeller."""
    start, options = time.perf_counter(), run.config.eval
    if not options.data or not options.gold:
        raise UserError("config.eval.data and config.eval.gold: kind labels needs both files")
    found, gold = (
        read_records(path, f"config.eval.{name}", run.config)
        for name, path in (("data", options.data), ("gold", options.gold))
    )
    pairs = match(found, gold)
    if not pairs:
        raise UserError(
            f"{options.data} and {options.gold} have no solution in common (by id, or by problem and steps)"
        )
    compared = [label_pair(found[i], gold[j], options.threshold) for i, j in pairs]
    by_labeller: dict[str, list[LabelPair]] = {}
    for (i, _), pair in zip(pairs, compared, strict=True):
        by_labeller.setdefault(found[i].labeller or "unnamed", []).append(pair)
    report: dict[str, Any] = {
        "data": options.data,
        "gold": options.gold,
        "unmatched": {"data": len(found) - len(pairs), "gold": len(gold) - len(pairs)},
        **agreement_report(compared),
    }
    if len(by_labeller) > 1:
        report["labellers"] = {name: agreement_report(of) for name, of in sorted(by_labeller.items())}
    report = write_measure(run, "labels", report, since=start)
    show_measure("labels", report)
    return report


def label_pair(found: LabelledSolution, gold: LabelledSolution, threshold: float) -> LabelPair:
    """Two records of one solution; a label that is a value counts as good from the threshold on, else as bad."""
    return LabelPair(
        found=_ratings(found, threshold),
        gold=_ratings(gold, threshold),
        found_error=_first_error(found, threshold),
        gold_error=_first_error(gold, threshold),
        completions=found.completions,
        tokens=found.tokens,
    )


def _ratings(record: LabelledSolution, threshold: float) -> tuple[int | None, ...]:
    return tuple(
        rating if rating is not None or value is None else (1 if value >= threshold else -1)
        for rating, value in zip(record.ratings, record.values, strict=True)
    )


def _first_error(record: LabelledSolution, threshold: float) -> int | None:
    return first_error_of(record.with_labels(ratings=_ratings(record, threshold)))
