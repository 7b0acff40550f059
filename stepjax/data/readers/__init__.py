"""Readers of the public step-labelled formats: files in, records out, with counts of what is left out."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from stepjax.config import DataOptions
from stepjax.data.readers import benchmarks, math_shepherd, omegaprm, prm800k, solutions
from stepjax.data.readers.base import Context, Found, Reader, RowError, Tally
from stepjax.data.rows import Bad, data_files, read_rows
from stepjax.data.schema import LabelledSolution, SchemaError, first_error_of
from stepjax.errors import UserError, nearest


def records(row: Mapping[str, Any], context: Context) -> Iterator[Found]:
    """stepjax's own JSONL; a row that does not say where it comes from gets this file and line."""
    try:
        json.dumps(row.get("extra"), allow_nan=False)
    except (TypeError, ValueError):  # Parquet has more types than JSON
        raise RowError("field 'extra' must hold JSON values alone") from None
    found = LabelledSolution.from_json(row)
    yield Found(found if found.place else replace(found, place=context.place))


READERS: dict[str, Reader] = {
    "prm800k": prm800k.read,
    "math_shepherd": math_shepherd.read,
    "omegaprm": omegaprm.read,
    "trl": benchmarks.trl,
    "processbench": benchmarks.processbench,
    "prmbench": benchmarks.prmbench,
    "gsm8k": solutions.gsm8k,
    "math": solutions.math,
    "records": records,
}


def check_reading(options: DataOptions) -> None:
    """UserError where the options name an unknown format or reason, or no path."""
    if options.source not in READERS:
        raise UserError(f"config.data.source={options.source!r}: no such format{nearest(options.source, READERS)}")
    if not options.path:
        raise UserError("config.data.path: name the file or folder to read")
    for reason in options.leave_out:
        if reason not in prm800k.REASONS:
            raise UserError(f"config.data.leave_out: no reason {reason!r}{nearest(reason, prm800k.REASONS)}")


def read_records(options: DataOptions, tally: Tally) -> Iterator[LabelledSolution]:
    """The records of `options.path`, in the order of the files, holding one row at a time; counts go to `tally`.

    A malformed row stops the reading with a UserError that names file, line and fault, or is set aside in the file
    `options.skip_bad` as `{"place", "error", "row"}`.
    """
    check_reading(options)
    reader, context = READERS[options.source], Context(options, tally)
    with ExitStack() as stack:
        bad = _set_aside(options, tally, stack) if options.skip_bad else _stop
        for path in data_files(options.path):
            tally.file = path
            for place, row in read_rows(path, bad):
                tally.rows += 1
                context.place = place
                try:
                    found = list(reader(row, context))
                except (RowError, SchemaError) as error:
                    tally.rows -= 1  # `bad` counts it
                    wrong = UserError(f"{place}: {error}")
                    bad(wrong, json.dumps(row, ensure_ascii=False, default=str))
                    continue
                for record, shared in found:
                    if not record.steps:
                        tally.dropped["solutions without a step"] += 1
                    else:
                        yield _finished(record, shared, options, tally)


def _stop(error: UserError, row: str) -> None:
    raise UserError(f"{error}; config.data.skip_bad=FILE sets such rows aside") from None


def _finished(record: LabelledSolution, shared: int, options: DataOptions, tally: Tally) -> LabelledSolution:
    """Neutral ratings by the options; without the labels that an earlier record has."""
    changes: dict[str, Any] = {}
    if options.neutral != "own" and 0 in record.ratings:
        new = {"good": 1, "bad": -1, "unlabelled": None}[options.neutral]
        ratings = tuple(new if rating == 0 else rating for rating in record.ratings)
        context = tally.dropped if new is None else tally.noted
        context[f"neutral ratings made {options.neutral}"] += record.ratings[shared:].count(0)
        changes = {"ratings": ratings, "first_error": first_error_of(ratings) if new == -1 else record.first_error}
    if shared and options.shared_labels == "once":
        ratings = changes.get("ratings", record.ratings)
        changes["ratings"] = (None,) * shared + tuple(ratings[shared:])
        changes["values"] = (None,) * shared + tuple(record.values[shared:])
    return replace(record, **changes) if changes else record


def _set_aside(options: DataOptions, tally: Tally, stack: ExitStack) -> Bad:
    """Writes malformed rows to a file that is made with the first of them."""
    path = Path(options.skip_bad)
    write: list[Callable[[str], Any]] = []

    def bad(error: UserError, row: str) -> None:
        tally.rows += 1
        tally.dropped["malformed rows, set aside"] += 1
        place, _, why = str(error).partition(": ")
        try:
            if not write:
                path.parent.mkdir(parents=True, exist_ok=True)
                write.append(stack.enter_context(path.open("w", encoding="utf-8", errors="backslashreplace")).write)
            write[0](json.dumps({"place": place, "error": why, "row": row}, ensure_ascii=False) + "\n")
        except OSError as failed:
            raise UserError(f"config.data.skip_bad={path}: cannot be written: {failed.strerror}") from None

    return bad
