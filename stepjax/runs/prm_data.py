"""Stage prm on step-labelled data: a process reward model learns from records instead of a task's verifier."""

import functools
import json
from collections import Counter
from typing import Any

import numpy as np

from stepjax.console.progress import say, table
from stepjax.data.packing import Example, PackedBatches
from stepjax.data.step_encoding import SolutionEncoder, labelled, step_targets
from stepjax.errors import UserError
from stepjax.learners.optimizers import head_first, make_optimizer
from stepjax.learners.supervised import prm_sums, reader_sums
from stepjax.models.definition import Params
from stepjax.parallel import is_main_process
from stepjax.runs.classifier import StepClassifier
from stepjax.runs.prm_held_out import HeldOut, held_out_report
from stepjax.runs.prm_records import Divided, by_step, held_out_solutions
from stepjax.runs.setup import Run
from stepjax.runs.stages import stage_params
from stepjax.runs.supervised import train
from stepjax.tasks.hooks import prompt_of
from stepjax.workdir.json_file import write_json

FIGURES = "prm.json"


def train_on_records(run: Run) -> Params:
    """Trains (or continues, or finds finished) the process reward model on `config.prm.data`; returns its parameters.

    Held-out figures go to the metrics at every checkpoint and, whole, to `prm.json`.
    """
    options = run.config.prm
    soft = options.objective != "class"
    encoder = SolutionEncoder(run.tokenizer, run.splitter, lambda problem: prompt_of(run.task, problem))
    data = Divided(run)
    classifier = StepClassifier(run, rows=options.rows, width=options.row_tokens)
    losses, counted = Counter[str](), np.zeros(len(data.train), bool)  # each record's losses count once
    held_out: list[HeldOut] = []

    def example(i: int) -> Example | None:
        record, lost = data.train[i], Counter[str]()
        encoded, targets = encoder(record, lost), step_targets(record, options, lost)
        if encoded is not None:
            unread = sum(t is not None and end < 0 for t, end in zip(targets, encoded.ends, strict=True))
            lost["labels of steps without a token of their own"] += unread
        if not counted[i]:
            counted[i] = True
            losses.update(lost)
        if encoded is None or all(target is None for target in targets):
            return None
        return labelled(encoded, targets, every_token=options.every_token, soft=soft)

    def batches() -> PackedBatches:
        say(f"PRM data: {len(data.train)} solutions to learn from, {len(data.valid)} of other problems held out")
        if not any(example(i) is not None for i in range(min(len(data.train), 1000))):
            why = "; ".join(f"{count} {what}" for what, count in sorted(losses.items()) if count)
            raise UserError(
                f"config.prm.data={options.data}: none of its first solutions has a label that target "
                f"{options.target} can learn ({why or 'they have no labels'})"
            )
        rows, width, seed = options.rows, options.row_tokens, run.config.seed + 1
        return PackedBatches(example, len(data.train), rows=rows, width=width, seed=seed, values=soft)

    def valid(params: Params) -> dict[str, float]:
        if not held_out:
            held_out.extend(held_out_solutions(run, data.valid, encoder))
        if not held_out:
            return {}
        scores = classifier.at_targets(params, [s.example for s in held_out])
        filled = [by_step(s, p) for s, p in zip(held_out, scores, strict=True)]
        report = _without_nan(held_out_report(held_out, filled, soft=soft))
        if is_main_process():
            write_json(run.workdir / FIGURES, report)
        line = dict(report["model"]) | {"temperature": report["calibration"]["temperature"]}
        for when in ("before", "after"):
            if when in report["calibration"]:
                line[f"ece_{when}"] = report["calibration"][when]["ece"]
        return {name: value for name, value in line.items() if value is not None}

    def initial() -> Params:
        given: dict[str, Params] = {}
        if options.from_sft:
            sft = stage_params(run, "sft", run.policy)
            given = {"language": sft} if options.reader_layers else {"trunk": sft["trunk"]}
        return run.prm.sharded_init(run.key("prm"), run.mesh, **given)

    optimizer = make_optimizer(options.optimizer, options.updates)
    if options.head_first:
        optimizer = head_first(optimizer, options.head_first, "language" if options.reader_layers else "trunk")
    sums: Any = functools.partial(prm_sums, objective=options.objective)
    if options.reader_layers:
        sums = functools.partial(reader_sums, lm_loss=options.lm_loss, objective=options.objective)
    params = train(
        run,
        "prm",
        "PRM",
        run.prm,
        sums,
        options,
        batches=batches,
        initial=initial,
        valid=valid,
        optimizer=optimizer,
        values=soft,
    )
    for what, count in sorted(losses.items()):
        if count:
            say(f"PRM data: {count} {what}")
    show_figures(run)
    return params


def _without_nan(found: Any) -> Any:
    """The report as JSON has it: null where a figure is not determined."""
    if isinstance(found, dict):
        return {name: _without_nan(value) for name, value in found.items()}
    if isinstance(found, list | tuple):
        return [_without_nan(value) for value in found]
    return None if isinstance(found, float) and found != found else found


def show_figures(run: Run) -> None:
    """The table of `prm.json`: the model beside chance and the constant guess."""
    path = run.workdir / FIGURES
    if not path.exists():
        return
    found = json.loads(path.read_text())
    names = [name for name in found["model"] if found["model"][name] is not None]
    rows = [
        [name.replace("_", " "), *(found[who].get(name) for who in ("model", "chance", "majority"))] for name in names
    ]
    title = f"PRM on {found['solutions']} held-out solutions, {found['steps']} labelled steps"
    table(title, ["", "model", "chance", "most frequent"], rows)
    calibration = found["calibration"]
    if "before" in calibration:
        before, after = (calibration[when]["ece"] for when in ("before", "after"))
        say(
            f"Calibration: temperature {calibration['temperature']:.3g}, fitted on {calibration['fitted_on']} steps; "
            f"on {calibration['tested_on']} others ECE {before:.3f} → {after:.3f}"
        )
