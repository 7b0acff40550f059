"""A study: process reward models trained on five kinds of labels of the same responses, measured in three worlds.

Kinds: `exact` (the verifier's rating of each step), `hard` (some completion from there was right), `soft` (the share of
completions that were), `value` (whether the response itself was right, on each of its steps) and `outcome` (the same on
only its last step). Worlds: the one trained in, longer chains, and other register names. `configs/prm_study.py` says
how to run it.
"""

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stepjax.console.progress import say
from stepjax.data.packing import Example, PackedBatches
from stepjax.errors import UserError
from stepjax.judges.cost import Cost
from stepjax.labels.completer import Completer
from stepjax.options import parse
from stepjax.parallel import key_on
from stepjax.runs.first_prompt import tell_first_prompt
from stepjax.runs.opening import open_run
from stepjax.runs.response_sampling import first_prompts, make_sampler, sample_each
from stepjax.runs.setup import Run
from stepjax.runs.stages import prm_start_params, stage_params
from stepjax.runs.supervised import train
from stepjax.runs.supervised_programs import prm_programs
from stepjax.studies.entry import run_main
from stepjax.studies.prm_study_labels import COMPLETIONS, KINDS, example, label_figures, with_values
from stepjax.studies.prm_study_measures import WORLDS, in_world, measure
from stepjax.studies.prm_study_table import show_table
from stepjax.workdir.json_file import plain, read_json, write_json

FILE = "prm_study.json"


def run_study(run: Run) -> dict[str, Any]:
    """Labels, trains and measures; a model that is trained already is only measured. Writes `prm_study.json`."""
    run, start = of_soft_labels(run), time.perf_counter()
    options = run.config
    policy = stage_params(run, "sft", run.policy)
    sampler, key = make_sampler(options.eval), key_on(run.mesh, options.eval.seed)
    prompts = first_prompts(run, "train", options.prm.samples)
    responses = [r for r in sample_each(run, policy, prompts, sampler, key, each=1) if r.steps]
    completer = Completer(run, policy, rows=options.eval.rows, temperature=1.0, seed=options.seed)
    solutions = with_values(run, responses, completer, COMPLETIONS, enough=8 * completer.at_once, label="Labels")
    values = [solution.record.values for solution in solutions]
    cost = sum((Cost.from_json(solution.record.extra["cost"]) for solution in solutions), Cost())
    found: dict[str, Any] = {
        "seed": options.seed,
        "responses": options.prm.samples,
        "completions": {"hard": cost.completions},
        "labels": label_figures(responses, values),
        "worlds": {},
    }
    models = {}
    for kind, labels in KINDS.items():
        labelled = zip(responses, solutions, values, strict=True)
        examples = [example(solution, labels(response, v), options.prm) for response, solution, v in labelled]
        models[kind] = train_on(run, policy, kind, examples)
    found["seconds_trained"] = round(time.perf_counter() - start)
    for name in WORLDS:
        found["worlds"][name] = measure(in_world(run, name), policy, models)
        write_json(run.workdir / FILE, plain(found))
    found["seconds"] = round(time.perf_counter() - start)
    write_json(run.workdir / FILE, plain(found))
    return found


def of_soft_labels(run: Run) -> Run:
    """The run whose process reward models tell bad from good, by P(good): all kinds of labels are learned alike."""
    prm = dataclasses.replace(run.config.prm, target="value", objective="bce", classes=2)
    evaluation = dataclasses.replace(run.config.eval, seed=run.config.seed)
    return dataclasses.replace(run, config=dataclasses.replace(run.config, prm=prm, eval=evaluation))


def train_on(run: Run, policy: Any, kind: str, examples: Sequence[Example]) -> Any:
    """Trains (or finds finished) the process reward model of one kind of label; returns its parameters."""
    options = run.config.prm
    rows, width, seed = options.rows, options.row_tokens, run.config.seed + 1
    return train(
        prm_programs(run, f"prm_{kind}"),
        f"PRM on {kind} labels",
        batches=lambda: PackedBatches(
            examples.__getitem__, len(examples), rows=rows, width=width, seed=seed, values=True
        ),
        initial=lambda: prm_start_params(run, policy),
        valid=lambda params: {},
    )


def main(argv: list[str]) -> None:
    if argv[:1] == ["--table"]:
        studies = [read_json(Path(folder) / FILE) for folder in argv[1:]]
        if not studies or not all(set(WORLDS) <= set(study.get("worlds", {})) for study in studies):
            raise UserError(f"--table: name work directories of finished studies, each with {FILE}")
        show_table(studies)
        return
    config, workdir = parse(argv, default="prm_study")
    if workdir is None or not config.base:
        raise UserError("usage: --config=prm_study --config.base=DIR --workdir=DIR, or --table DIR DIR …")
    with open_run(config, workdir) as run:
        tell_first_prompt(run)
        found = run_study(run)
    show_table([found])
    say(json.dumps(found["labels"]))


if __name__ == "__main__":
    run_main(main)
