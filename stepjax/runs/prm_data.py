"""Stage prm on step-labelled data: training on records instead of a task verifier's ratings."""

from typing import Any

from stepjax.console.progress import say, table
from stepjax.data.packing import PackedBatches
from stepjax.models.definition import Params
from stepjax.runs.classifier import StepClassifier
from stepjax.runs.prm_held_out import HeldOut, held_out_report
from stepjax.runs.prm_records import Divided, Examples, by_step, held_out_solutions
from stepjax.runs.setup import Run
from stepjax.runs.stages import prm_start_params
from stepjax.runs.supervised import train
from stepjax.runs.supervised_programs import prm_programs
from stepjax.tasks.encoding import solution_encoder
from stepjax.workdir.json_file import plain, read_json, write_json

FIGURES = "prm.json"


def train_on_records(run: Run) -> Params:
    """Trains (or continues, or finds finished) the process reward model on `config.prm.data`; returns its parameters.

    Held-out figures go to the metrics at every checkpoint and, complete, to `prm.json`.
    """
    programs = prm_programs(run)
    run, options = programs.run, run.config.prm
    encoder = solution_encoder(run.prompt, run.splitter)
    data = Divided(run)
    examples = Examples(run, data.train, encoder)
    classifier = StepClassifier(run, rows=options.rows, width=options.row_tokens)
    held_out: list[HeldOut] = []

    def batches() -> PackedBatches:
        say(f"PRM data: {len(data.train)} solutions to learn from, {len(data.valid)} of other problems held out")
        examples.check()
        rows, width, seed = options.rows, options.row_tokens, run.config.seed + 1
        return PackedBatches(examples, len(data.train), rows=rows, width=width, seed=seed, values=programs.soft)

    def valid(params: Params) -> dict[str, float]:
        if not held_out:
            held_out.extend(held_out_solutions(run, data.valid, encoder))
        if not held_out:
            return {}
        scores = classifier.at_targets(params, [s.encoded.at_ends() for s in held_out])
        filled = [by_step(s, p) for s, p in zip(held_out, scores, strict=True)]
        report = plain(held_out_report(held_out, filled, soft=programs.soft))
        write_json(run.workdir / FIGURES, report)
        return _logged(report)

    params = train(programs, "PRM", batches=batches, initial=lambda: prm_start_params(run), valid=valid)
    for what in examples.told():
        say(f"PRM data: {what}")
    show_figures(run)
    return params


def _logged(report: dict[str, Any]) -> dict[str, float]:
    """The figures of a report that go to the metrics."""
    calibration = report["calibration"]
    line = report["model"] | {"temperature": calibration["temperature"]}
    line |= {f"ece_{when}": calibration[when]["ece"] for when in ("before", "after") if when in calibration}
    return {name: value for name, value in line.items() if value is not None}


def show_figures(run: Run) -> None:
    """The table of `prm.json`: the model, random guesses and the most frequent class."""
    path = run.workdir / FIGURES
    if not path.exists():
        return
    found = read_json(path)
    if not {"model", "chance", "majority", "calibration"} <= set(found):
        say(f"{path.name} is not what stepjax writes: its table is left out")
        return
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
