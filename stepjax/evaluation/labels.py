"""Evaluation of labels: how far they agree with gold labels of the same steps."""

import time
from typing import Any

from stepjax.data.schema import LabelledSolution
from stepjax.errors import UserError
from stepjax.evaluation.records import match, read_records
from stepjax.evaluation.results import publish
from stepjax.measures.agreement import LabelPair, agreement_report
from stepjax.runs.setup import Run


def measure_labels(run: Run) -> dict[str, Any]:
    """Agreement of `eval.data` with `eval.gold`, in all and by labeller."""
    start, options = time.perf_counter(), run.config.eval
    if not options.data or not options.gold:
        raise UserError("config.eval.data and config.eval.gold: name the labels, and the gold labels, for kind labels")
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
    return publish(run, "labels", report, since=start)


def label_pair(found: LabelledSolution, gold: LabelledSolution, threshold: float) -> LabelPair:
    """Two records of one solution; a label that is a value counts as good from the threshold on, else as bad."""
    return LabelPair(
        found=found.ratings_at(threshold),
        gold=gold.ratings_at(threshold),
        found_error=found.error_at(threshold),
        gold_error=gold.error_at(threshold),
        completions=found.completions,
        tokens=found.tokens,
    )
