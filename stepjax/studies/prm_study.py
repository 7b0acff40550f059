"""A study: process reward models trained on five kinds of labels of the same responses, measured in three worlds.

Kinds: `exact` (the verifier's word on each step), `hard` (some completion from there was right), `soft` (the share of
completions that were), `value` (whether the response itself was right, on each of its steps) and `outcome` (the same on
its last step alone). Worlds: the one trained in, longer chains, and other register names. `configs/prm_study.py` says
how to run it.
"""

import dataclasses
import functools
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stepjax.console.progress import say, table
from stepjax.data.packing import Example, PackedBatches
from stepjax.errors import UserError
from stepjax.evaluation.best_of_n import make_pools
from stepjax.evaluation.prm import known_ratings
from stepjax.evaluation.records import is_tuning
from stepjax.evaluation.scorer import p_right, spread
from stepjax.measures.best_of_n import best_of_n_report
from stepjax.measures.step_scores import ScoredSolution, step_score_report
from stepjax.parallel import batch_devices, key_on
from stepjax.rollout.generate import RolloutShape
from stepjax.rollout.sampling import Sampler
from stepjax.runs.classifier import StepClassifier
from stepjax.runs.response_sampling import ResponseSampler
from stepjax.runs.responses import Response
from stepjax.runs.setup import Run, open_run
from stepjax.runs.stages import stage_params
from stepjax.runs.supervised import train
from stepjax.runs.supervised_programs import SupervisedPrograms
from stepjax.studies.continuations import count_completions, prefix_values
from stepjax.studies.soft_labels import soft_sums
from stepjax.tasks.encoding import fitting_prompts, labelled_steps
from stepjax.tasks.register_chain import RegisterChain
from stepjax.workdir.json_file import plain, read_json, write_json

COMPLETIONS = 8  # of each prefix, for labels [Wang 2023]
FRESH = 16  # of each prefix, for the values that models are held against
VALUED = 64  # responses of which those are estimated
FILE = "prm_study.json"

Labels = Callable[[Response, np.ndarray], list[int | None]]


def exact(response: Response, values: np.ndarray) -> list[int | None]:
    ratings = known_ratings(response.step_ratings or [], response.finished, len(response.steps))
    return [None if rating is None else COMPLETIONS * (rating >= 0) for rating in ratings]


def hard(response: Response, values: np.ndarray) -> list[int | None]:
    return [COMPLETIONS * int(value > 0) for value in values]


def soft(response: Response, values: np.ndarray) -> list[int | None]:
    return [round(COMPLETIONS * value) for value in values]


def value(response: Response, values: np.ndarray) -> list[int | None]:
    return [COMPLETIONS * response.correct] * len(response.steps)


def outcome(response: Response, values: np.ndarray) -> list[int | None]:
    return [*[None] * (len(response.steps) - 1), COMPLETIONS * response.correct]


KINDS: dict[str, Labels] = {f.__name__: f for f in (exact, hard, soft, value, outcome)}

WORLDS: dict[str, dict[str, Any]] = {
    "trained in": {},
    "longer chains": {"operations": (3, 3)},
    "other names": {"shuffled_names": True},
}


def run_study(run: Run) -> dict[str, Any]:
    """Labels, trains and measures; a model that is trained already is only measured. Writes `prm_study.json`."""
    start, options = time.perf_counter(), run.config
    policy = stage_params(run, "sft", run.policy)
    found: dict[str, Any] = {"seed": options.seed, "responses": options.prm.samples, "worlds": {}}
    responses = sample(run, policy, "train", options.prm.samples, each=1, fold=0)
    values = prefix_values(
        run, policy, responses, key_on(run.mesh, options.seed, 11), completions=COMPLETIONS, label="Labels"
    )
    found["completions"] = {"hard": count_completions(responses, COMPLETIONS)}
    found["labels"] = label_figures(responses, values)
    models = {}
    for kind, labels in KINDS.items():
        examples = [example(run, r, labels(r, v)) for r, v in zip(responses, values, strict=True) if r.steps]
        models[kind] = train_on(run, policy, kind, examples)
    found["seconds_trained"] = round(time.perf_counter() - start)
    for i, (name, changes) in enumerate(WORLDS.items()):
        world = dataclasses.replace(options.task.register_chain, **changes)
        there = dataclasses.replace(run, task=RegisterChain(world))
        found["worlds"][name] = measure_in(there, policy, models, fold=20 + i)
        write_json(run.workdir / FILE, plain(found))
    found["seconds"] = round(time.perf_counter() - start)
    write_json(run.workdir / FILE, plain(found))
    return found


def sample(run: Run, policy: Any, split: str, problems: int, *, each: int, fold: int) -> list[Response]:
    """`each` responses to each of the first problems of a split, those of a problem together."""
    ppo = run.config.ppo
    some = run.task.problems(split)
    chosen = [some[i] for i in range(min(problems, len(some)))]
    prompts = fitting_prompts(run.tokenizer, chosen, width=ppo.prompt_tokens, where="config.ppo.prompt_tokens")
    rows = [i for i in range(len(prompts.problems)) for _ in range(each)]
    at_once, devices = run.config.eval.rows, batch_devices(run.mesh)
    shape = RolloutShape.of_many(len(rows), at_once, ppo.prompt_tokens, ppo.max_new_tokens, devices)
    return ResponseSampler(run, shape, Sampler(1.0)).many(
        policy, prompts, rows, key_on(run.mesh, run.config.seed, 12, fold)
    )


def label_figures(responses: Sequence[Response], values: Sequence[np.ndarray]) -> dict[str, Any]:
    """How the labels of steps agree with the verifier's: the share of steps on which they say the same."""
    found = {}
    for kind, labels in KINDS.items():
        pairs = [
            (a >= COMPLETIONS / 2, b >= COMPLETIONS / 2)
            for r, v in zip(responses, values, strict=True)
            if r.steps
            for a, b in zip(exact(r, v), labels(r, v), strict=True)
            if a is not None and b is not None
        ]
        found[kind] = {"steps": len(pairs), "same": float(np.mean([a == b for a, b in pairs]))}
    return found


def example(run: Run, response: Response, labels: Sequence[int | None]) -> Example:
    """The response with a label on the last token of each step that has one."""
    index, end = run.splitter.split_host(response.tokens)
    known = [labels[min(i, len(labels) - 1)] for i in index[end]]
    end = end.copy()
    end[np.flatnonzero(end)[[label is None for label in known]]] = False
    return labelled_steps(response.prompt, response.tokens, end, [label for label in known if label is not None])


def train_on(run: Run, policy: Any, kind: str, examples: Sequence[Example]) -> Any:
    options = run.config.prm
    sums = functools.partial(soft_sums, parts=COMPLETIONS, lm_loss=options.lm_loss)
    given = {"language": policy} if options.reader_layers else {"trunk": policy["trunk"]}
    return train(
        SupervisedPrograms(run, f"prm_{kind}", run.prm, sums, options),
        f"PRM on {kind} labels",
        batches=lambda: PackedBatches(
            examples.__getitem__, len(examples), rows=options.rows, width=options.row_tokens, seed=run.config.seed + 1
        ),
        initial=lambda: run.prm.sharded_init(run.key("prm"), run.mesh, **given),
        valid=lambda params: {},
    )


def measure_in(run: Run, policy: Any, models: dict[str, Any], *, fold: int) -> dict[str, Any]:
    """Figures of every model on the same pools of responses in one world."""
    options = run.config
    pool = options.eval.pool
    responses = sample(run, policy, "test", options.eval.problems, each=pool, fold=fold)
    valued = responses[:: max(len(responses) // VALUED, 1)][:VALUED]
    key = key_on(run.mesh, options.seed, 13, fold)
    values = prefix_values(run, policy, valued, key, completions=FRESH, label="Fresh values")
    value_of = {id(r): v for r, v in zip(valued, values, strict=True)}
    classifier = StepClassifier(run, rows=options.prm.rows, width=options.prm.row_tokens)
    found: dict[str, Any] = {"accuracy": float(np.mean([r.correct for r in responses])), "kinds": {}}
    for kind, params in models.items():
        scores = [
            None if s is None else spread(s, *run.splitter.split_host(r.tokens), len(r.steps))
            for s, r in zip(classifier.by_response(params, responses), responses, strict=True)
        ]
        solutions = [scored(r, s, value_of.get(id(r))) for r, s in zip(responses, scores, strict=True) if s is not None]
        choice = best_of_n_report(make_pools(run.task, responses, scores, pool), seed=options.seed)
        found["kinds"][kind] = step_score_report(solutions) | {"best_of_n": choice}
        found["left_out"] = classifier.left_out
    return found


def scored(response: Response, scores: np.ndarray, values: np.ndarray | None) -> ScoredSolution:
    ratings = known_ratings(response.step_ratings or [], response.finished, len(response.steps))
    wrong = [k for k, rating in enumerate(ratings) if rating is not None and rating < 0]
    return ScoredSolution(
        right=p_right(scores),
        rating=ratings,
        value=() if values is None else values.tolist(),
        first_error=wrong[0] if wrong else -1,
        outcome=response.correct,
        tuning=is_tuning(response.problem.prompt, 0.3),
    )


def figures_of(world: dict[str, Any], kind: str) -> dict[str, float]:
    """The figures of the table, by name."""
    of = world["kinds"][kind]
    curves = of["best_of_n"]["curves"]

    def at(name: str, n: int) -> float:
        return curves[name]["mean"][of["best_of_n"]["sizes"].index(n)]

    return {
        "F1 at .5": of["first_error"]["fixed"]["f1"],
        "F1 tuned": of["first_error"]["tuned"]["f1"],
        "AUC step": of["steps"]["auc"],
        "AUC value": of["values"]["auc"],
        "|P − value|": of["values"]["mean_difference"],
        **{f"best of {n}, min": at("best/min", n) for n in (4, 16, 64)},
        **{f"best of {n}, last": at("best/last", n) for n in (4, 16, 64)},
        "majority of 64": at("majority", 64),
        "pass@64": at("pass", 64),
    }


def show_table(studies: Sequence[dict[str, Any]]) -> None:
    """Mean and spread (standard deviation) over seeds, a table a world; all figures times 100."""
    for name in WORLDS:
        worlds = [study["worlds"][name] for study in studies]
        names = list(figures_of(worlds[0], "exact"))
        columns: dict[str, list[str]] = {}
        for kind in KINDS:
            of_seeds = [figures_of(world, kind) for world in worlds]
            columns[kind] = []
            for figure in names:
                x = np.array([row[figure] for row in of_seeds], np.float64)
                columns[kind].append(
                    f"{100 * x.mean():.1f}±{100 * x.std(ddof=1):.1f}" if len(x) > 1 else f"{100 * x[0]:.1f}"
                )
        accuracy = np.mean([world["accuracy"] for world in worlds])
        rows = [[figure, *(columns[kind][i] for kind in KINDS)] for i, figure in enumerate(names)]
        title = f"{name}, in %, {len(studies)} seeds; the policy itself {100 * accuracy:.1f}"
        table(title, ["", *KINDS], rows)


def main(argv: list[str]) -> None:
    from stepjax.options import parse

    if argv[:1] == ["--table"]:
        studies = [read_json(Path(folder) / FILE) for folder in argv[1:]]
        if not studies or not all(set(WORLDS) <= set(study.get("worlds", {})) for study in studies):
            raise UserError(f"--table: name work directories of finished studies, each with {FILE}")
        show_table(studies)
        return
    config, workdir, rest = parse(argv, "prm_study")
    if rest or workdir is None or not config.base:
        raise UserError("usage: --config=prm_study --config.base=DIR --workdir=DIR, or --table DIR DIR …")
    with open_run(config, workdir) as run:
        found = run_study(run)
    show_table([found])
    say(json.dumps(found["labels"]))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        print(f"stepjax: {error}", file=sys.stderr)
        sys.exit(2)
