"""`stepjax data`: files of a public format to one dataset, with its statistics and counts of what was left out.

No device is used and JAX is not imported: memory does not grow with the number of rows.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stepjax.config import DataOptions
from stepjax.console.progress import table
from stepjax.data.dataset_writer import DatasetWriter
from stepjax.data.hub_layout import split_of
from stepjax.data.readers import check_reading, read_records
from stepjax.data.readers.base import Tally
from stepjax.data.schema import LabelledSolution, line
from stepjax.data.statistics import Statistics
from stepjax.errors import UserError

REPORT_SECONDS = 10.0
STATISTICS = "statistics.json"

Write = Callable[[LabelledSolution, str], None]
Finish = Callable[[str], None]


def convert(options: DataOptions) -> dict[str, object]:
    """Reads, writes, prints; returns what it printed: statistics per split, counts of rows, drops and notes."""
    check_reading(options)
    begun = told = time.monotonic()
    tally, tokens = Tally(), _token_counter(options.tokenizer)
    found: dict[str, Statistics] = {}
    with _output(options) as (write, finish):
        for record in read_records(options, tally):
            split = _split(options, record, tally.file)
            if split not in found:
                found[split] = Statistics(tokens)
            found[split].add(record)
            write(record, split)
            if (now := time.monotonic()) - told > REPORT_SECONDS:
                told = now
                print(f"{tally.rows} rows ({tally.rows / (now - begun):.0f} a second)", file=sys.stderr, flush=True)
        if not found:
            raise UserError(f"config.data.path={options.path}: no records in {tally.rows} rows; {_dropped(tally)}")
        seconds = time.monotonic() - begun
        report = {
            "source": options.source,
            "path": options.path,
            "rows": tally.rows,
            "rows_a_second": round(tally.rows / max(seconds, 1e-9), 1),
            "dropped": dict(tally.dropped),
            "noted": dict(tally.noted),
            "splits": {split: statistics.to_json() for split, statistics in found.items()},
        }
        finish(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    _show(options, tally, found, seconds)
    return report


def _split(options: DataOptions, record: LabelledSolution, file: Path | None) -> str:
    """The split of a record: that which the file of a folder is named after, where some is held out of train."""
    found = "train" if file is None or Path(options.path).is_file() else split_of(file.name)
    if found == "train" and options.held_out and record.share("held out") < options.held_out:
        found = "valid"
    return "valid" if found == "validation" else found


def _show(options: DataOptions, tally: Tally, found: dict[str, Statistics], seconds: float) -> None:
    for split, statistics in found.items():
        errors = statistics.first_errors
        outcomes = _counts(statistics.outcomes)
        print(f"{split}: {statistics.records} solutions, {statistics.steps} steps; outcomes {outcomes}")
        print(f"{split}: {errors['none']} solutions without an error, {errors['unknown']} where that is not known")
        for title, columns, rows in statistics.tables():
            table(f"{split}: {title}", columns, rows)
    if tally.noted:
        table("notes", ["what", "count"], sorted(tally.noted.items()))
    if tally.dropped:
        table("left out", ["why", "count"], sorted(tally.dropped.items()))
    print(f"{tally.rows} rows in {seconds:.1f} s ({tally.rows / max(seconds, 1e-9):.0f} a second); {_dropped(tally)}")
    if tally.dropped["malformed rows, set aside"]:
        print(f"malformed rows: {options.skip_bad}")
    if options.out:
        print(options.out)


def _dropped(tally: Tally) -> str:
    return f"left out: {_counts(tally.dropped)}" if tally.dropped else "nothing was left out"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()) if count)


def _token_counter(path: str) -> Callable[[str], int] | None:
    if not path:
        return None
    from stepjax.data.tokenizers import load_tokenizer

    tokenizer = load_tokenizer(path)
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False))


@contextmanager
def _output(options: DataOptions) -> Iterator[tuple[Write, Finish]]:
    """Where records go: a TFDS folder, a JSONL file (then one for each split), or nowhere."""
    if not options.out:
        yield (lambda record, split: None), (lambda report: None)
    elif options.out.endswith(".jsonl"):
        with _jsonl(Path(options.out), options.overwrite) as write:
            yield write, (lambda report: None)
    else:
        description = f"Step-labelled solutions read from {options.source} by stepjax."
        with DatasetWriter(
            options.out,
            name=options.source,
            shards=options.shards,
            description=description,
            overwrite=options.overwrite,
        ) as writer:
            yield writer.write, (lambda report: writer.add_file(STATISTICS, report))


@contextmanager
def _jsonl(path: Path, overwrite: bool) -> Iterator[Write]:
    """`path` for train, `….valid.jsonl` and `….test.jsonl` for the others; written whole or not at all."""
    names = {"train": path, **{split: path.with_suffix(f".{split}.jsonl") for split in ("valid", "test")}}
    for name in names.values():
        if name.exists() and not overwrite:
            raise UserError(f"{name} exists already; name another file, or set config.data.overwrite=True")
    files = {}

    def write(record: LabelledSolution, split: str) -> None:
        if split not in files:
            files[split] = names[split].with_name(names[split].name + ".partial").open("w", encoding="utf-8")
        files[split].write(line(record))

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield write
    except BaseException:
        for file in files.values():
            file.close()
            Path(file.name).unlink(missing_ok=True)
        raise
    for split, file in files.items():
        file.close()
        os.replace(file.name, names[split])
