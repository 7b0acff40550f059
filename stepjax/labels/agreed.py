"""The consensus of two files of labels, and how far they disagree."""

from pathlib import Path

from stepjax.config import LabelOptions
from stepjax.errors import UserError
from stepjax.evaluation.records import match
from stepjax.labels.consensus import agreement_figures, consensus
from stepjax.labels.file import LabelFile
from stepjax.labels.sources import read_solutions
from stepjax.labels.tables import show_agreement
from stepjax.workdir.json_file import plain, write_json


def write_consensus(options: LabelOptions, out: Path) -> None:
    """Writes the labels that `label.first` and `label.second` agree on, and the figures beside them."""
    if not options.first or not options.second:
        raise UserError("config.label.first and config.label.second: name the two files of labels")
    first = read_solutions(options.first, "config.label.first")
    second = read_solutions(options.second, "config.label.second")
    try:
        pairs = match(first, second)
    except UserError as error:
        raise UserError(str(error).replace("eval.data", "label.first").replace("eval.gold", "label.second")) from None
    if not pairs:
        raise UserError(
            f"{options.first} and {options.second} have no solution in common (by id, or by problem and steps)"
        )
    found = [consensus(first[i], second[j], options.classes) for i, j in pairs]
    with LabelFile(out, {n: getattr(options, n) for n in ("method", "first", "second", "classes")}) as file:
        file.append(
            each.record if each.record.id else each.record.with_labels(id=f"row {i}") for i, each in enumerate(found)
        )
    figures = {
        "first": options.first,
        "second": options.second,
        "unmatched": {"first": len(first) - len(pairs), "second": len(second) - len(pairs)},
        **agreement_figures(found),
    }
    write_json(out.with_suffix(".agreement.json"), plain(figures))
    show_agreement(plain(figures), out)
