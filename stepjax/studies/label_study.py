"""A study: accuracy and cost of labels by completions, measured against exact ratings.

Solutions of one policy are labelled by Monte Carlo (hard, soft) and OmegaPRM with N = 1, 2, 4 … completions of a prefix
by completers of different strength. All numbers N and both methods share one set of completions.
`configs/label_study.py` shows how to run it.
"""

import dataclasses
import time
from typing import Any

from stepjax.config import POLICIES
from stepjax.console.progress import say
from stepjax.data.schema import NO_ERROR
from stepjax.errors import UserError
from stepjax.labels.policy import load_completer
from stepjax.labels.sources import sampled_records, solutions
from stepjax.options import parse
from stepjax.runs.first_prompt import tell_first_prompt
from stepjax.runs.opening import open_run
from stepjax.runs.setup import Run
from stepjax.studies.entry import run_main
from stepjax.studies.label_study_chains import chain_study
from stepjax.studies.label_study_figures import rate, study
from stepjax.studies.label_study_page import write_page
from stepjax.studies.label_study_tables import show_study
from stepjax.workdir.json_file import plain, write_json

FILE = "label_study.json"


def run_study(run: Run, completers: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """The study in a run's own world by trained completers (`name: (work directory, stage)`), then on longer chains."""
    start, options = time.perf_counter(), run.config.label
    rated = rate(run, solutions(run, sampled_records(run)))
    found: dict[str, Any] = {
        "solutions": len(rated),
        "wrong": sum(j.first_error != NO_ERROR for j in rated),
        "completers": {},
    }
    for name, (folder, stage) in completers.items():
        label = dataclasses.replace(options, completer=folder, stage=stage)
        completer, named = load_completer(dataclasses.replace(run, config=dataclasses.replace(run.config, label=label)))
        found["completers"][name] = {"is": named, **study(rated, completer, options.most)}
        write_json(run.workdir / FILE, plain(found))
    found["chains"] = chain_study(run, options.most)
    found["seconds"] = round(time.perf_counter() - start)
    write_json(run.workdir / FILE, plain(found))
    show_study(plain(found))
    say(str(write_page(run.workdir / "label_study.html", plain(found))))
    return found


def main(argv: list[str]) -> None:
    config, workdir = parse([a for a in argv if a.startswith("-")], default="label_study")
    completers = {}
    for argument in (a for a in argv if not a.startswith("-")):
        name, _, place = argument.partition("=")
        folder, _, stage = place.rpartition(":")
        if not name or not folder or stage not in POLICIES:
            known = ", ".join(POLICIES)
            raise UserError(f"what is {argument!r}? Completers are written NAME=DIR:STAGE, the stage one of {known}")
        completers[name] = (folder, stage)
    if workdir is None or not config.base or not completers:
        raise UserError("usage: --config.base=DIR --workdir=DIR NAME=DIR:STAGE …, one completer or several")
    with open_run(config, workdir) as run:
        tell_first_prompt(run)
        run_study(run, completers)


if __name__ == "__main__":
    run_main(main)
