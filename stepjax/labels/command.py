"""`stepjax label`: automatic step labels, appended to a file that a later call continues."""

import dataclasses
import functools
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from stepjax.config import Config, LabelOptions
from stepjax.console.progress import progress
from stepjax.data.schema import LabelledSolution
from stepjax.distributed.session import session
from stepjax.drive import Labelling, drive
from stepjax.errors import UserError
from stepjax.labels.consensus import write_consensus
from stepjax.labels.file import LabelFile
from stepjax.labels.judge_driver import judge_by_policy, judge_by_server
from stepjax.labels.monte_carlo import Completions, monte_carlo
from stepjax.labels.omegaprm import TreeSearch, omegaprm
from stepjax.labels.policy import label_weights, load_completer
from stepjax.labels.solution import Completion, Request, Solution
from stepjax.labels.sources import as_solution, named_records, sampled_records, solutions
from stepjax.labels.tables import show_labels
from stepjax.parallel import is_main_process
from stepjax.runs.first_prompt import tell_first_prompt
from stepjax.runs.opening import open_run
from stepjax.runs.origin_parts import READING
from stepjax.runs.setup import Run
from stepjax.workdir.record_file import WEIGHTS

FROM_FILES = "name a JSONL file: labels of files have no default in a work directory"


def run_label(config: Config, workdir: Path, *, accept_changed: bool = False) -> None:
    """Labels by the options `config.label`. A server's judge and a consensus open no work directory.

    `accept_changed`: goes on where data, tokenizer, … are not those that the checkpoints were made of.
    """
    options = config.label
    if options.method == "consensus":
        if not options.out:
            raise UserError(f"config.label.out: {FROM_FILES}")
        write_consensus(options, Path(options.out))
        return
    if options.method == "judge" and options.judge.url and options.data:
        if not options.out:
            raise UserError(f"config.label.out: {FROM_FILES}")
        judge_by_server(options, named_records(options.data), Path(options.out))
        return
    opened = open_run(config, workdir, kinds=READING, accept_changed=accept_changed)
    with session(config.distributed), opened as run:
        tell_first_prompt(run)
        label(run)


def label(run: Run) -> Path:
    """Labels with a run's policy, or a server's judge of a run's responses; returns the file of labels."""
    options = run.config.label
    out = Path(options.out) if options.out else run.workdir / "labels" / f"{options.method}.jsonl"
    records = named_records(options.data) if options.data else sampled_records(run)
    if options.method == "judge":
        if options.judge.url:
            if is_main_process():
                judge_by_server(options, records, out)
        else:
            judge_by_policy(run, records, out)
        return out
    return label_by_completions(run, records, out)


def label_by_completions(run: Run, records: Sequence[LabelledSolution], out: Path) -> Path:
    """Monte Carlo and OmegaPRM labels of the records that are not in `out` yet."""
    options, start = run.config.label, time.perf_counter()
    if options.temperature == 0 and options.completions > 1:
        raise UserError("config.label.temperature: at 0 all completions of a prefix are the same; raise it")
    completer, named = load_completer(run)
    made_with = _made_with(options) | {"completer": named, WEIGHTS: label_weights(run)}
    with LabelFile(out, made_with, primary=is_main_process()) as file:
        groups = _groups(solutions(run, records), whole=options.method == "omegaprm")
        waiting = [group for group in groups if any(s.record.id not in file.done for s in group)]
        total, done = sum(map(len, groups)), sum(map(len, groups)) - sum(map(len, waiting))

        def begin(group: Sequence[Solution]) -> Labelling[Request, list[Completion], list[LabelledSolution]]:
            if options.method == "omegaprm":
                search = TreeSearch(options.completions, **dataclasses.asdict(options.omega))
                return (yield from omegaprm(group, search, functools.partial(as_solution, run), options.kind))
            rule = Completions(options.completions, options.interval, options.most, options.confidence)
            return [(yield from monte_carlo(group[0], rule, options.kind, options.margin))]

        results: Iterator[list[LabelledSolution]] = drive(
            (begin(group) for group in waiting),
            completer,
            enough=2 * completer.rows,
            weight=lambda request: request.count,
        )
        given = {s.record.id for group in waiting for s in group}
        with progress("Labels", total, "solutions", start=done) as bar:
            for found in results:
                # The given ones last: if all of them are there, so are those that the search added.
                ordered = sorted(found, key=lambda record: record.id in given)
                file.append(_provenance(record, options, named) for record in ordered)
                bar.advance(
                    sum(record.id in given for record in found),
                    completions=file.cost.completions,
                    tokens=file.cost.tokens,
                )
        show_labels(file, options, seconds=time.perf_counter() - start)
    return out


def _groups(found: Iterable[Solution], *, whole: bool) -> list[list[Solution]]:
    """The solutions grouped by problem (`whole`), or each on its own."""
    if not whole:
        return [[solution] for solution in found]
    ordered = sorted(found, key=lambda s: s.prompt)  # sorting is stable
    return [list(group) for _, group in groupby(ordered, key=lambda s: s.prompt)]


def _provenance(record: LabelledSolution, options: LabelOptions, named: dict[str, Any]) -> LabelledSolution:
    made = {**record.extra["label"], "completer": named, "seed": options.seed, "temperature": options.temperature}
    return record.with_labels(
        labeller=f"{options.method}/{options.kind}", extra={**record.extra, "label": {"method": options.method, **made}}
    )


def _made_with(options: LabelOptions) -> dict[str, Any]:
    """The options that a completion label depends on, of the method in use."""
    names = ["method", "kind", "completions", "temperature", "seed"]
    found: dict[str, Any] = {}
    if options.method == "omegaprm":
        found = {f"omega.{name}": value for name, value in dataclasses.asdict(options.omega).items()}
    else:
        names += ["interval", *(["most", "confidence"] if options.interval else [])]
        names += ["margin"] if options.kind == "advances" else []
    return {name: getattr(options, name) for name in names} | found
