"""Stage eval: the policies of a work directory on held-out problems, before and after."""

import time
from collections.abc import Sequence
from typing import Any

from stepjax.console.progress import progress, say, table
from stepjax.evaluation.responses import write_responses
from stepjax.evaluation.scorer import RunScorer
from stepjax.measures.intervals import jackknife_intervals, of_share, wilson
from stepjax.measures.policy import POLICY_MEASURES
from stepjax.parallel import key_on, only_asked_transfers
from stepjax.runs.classifier import classification_report
from stepjax.runs.response_figures import measure
from stepjax.runs.response_sampling import ResponseSampler, first_prompts, make_sampler
from stepjax.runs.responses import Response
from stepjax.runs.setup import Run
from stepjax.runs.stages import has_stage, policies_of, policy_params, policy_step, starts_loaded
from stepjax.runs.turn_figures import turn_figures
from stepjax.workdir.json_file import MEASURES, read_json, write_json


def evaluate(run: Run) -> dict[str, Any]:
    """Samples held-out problems from each stage's policy, prints the table, writes eval.json and the responses."""
    options = run.config.eval
    start = time.perf_counter()
    prompts = first_prompts(run, options.split, options.problems)
    sampler = ResponseSampler.of_many(run, len(prompts.problems), make_sampler(options))
    key = key_on(run.mesh, options.seed)
    policies = policies_of(run)
    found: dict[str, Any] = {
        "problems": len(prompts.problems),
        "left_out": prompts.left_out,
        "temperature": options.temperature,
        "split": options.split,
        "seed": options.seed,
        "steps": {stage: policy_step(run, stage) for stage in policies},
        "rows": {},
        "prm": {},
        "notes": [],
    }
    if starts_loaded(run, "sft"):
        found["loaded"] = run.config.model.path
    responses: dict[str, list[Response]] = {}
    count = len(policies) * len(prompts.problems)
    with progress("Evaluation", count, "responses") as bar, only_asked_transfers():
        for stage in policies:
            params = policy_params(run, stage)
            answered = sampler.many(params, prompts, range(len(prompts.problems)), key, bar)
            found["rows"][stage], responses[stage] = _figures(run, answered), answered
    trained = has_stage(run, "prm") and not run.config.prm.path  # a public model: eval.kind=prm measures it
    scorer = RunScorer(run) if trained and responses else None
    for stage, answered in responses.items():
        scores = None if scorer is None else scorer.score_responses(answered)
        write_responses(run, stage, answered, scores)
        if scorer is not None and answered[0].step_ratings is not None:
            rated = scorer.classifier(scorer.params, answered)
            found["prm"][stage] = classification_report(*rated, classes=run.config.prm.classes)
            found["notes"] += [f"{stage}: {sentence}." for sentence in scorer.classifier.told_left_out()]
    found["seconds"] = round(time.perf_counter() - start, 2)
    path = run.workdir / "eval.json"
    kept = read_json(path).get(MEASURES)  # results of the other kinds of evaluation
    write_json(path, found | ({MEASURES: kept} if kept else {}))
    show(found)
    return found


def _figures(run: Run, answered: Sequence[Response]) -> dict[str, Any]:
    """The figures of a policy's responses, one to a problem, and a 95 % interval of each measure."""

    def of(some: Sequence[Response]) -> dict[str, float]:
        return measure(some, run.task, tags=bool(run.config.prompt.structure)) | turn_figures(some)

    intervals = jackknife_intervals(answered, of)
    intervals["accuracy"] = wilson(sum(r.correct for r in answered), len(answered))
    found: dict[str, Any] = dict(of(answered))
    for name, _, unit, _ in POLICY_MEASURES:
        if unit == "share" and name in found:
            found[f"{name}_interval"] = list(of_share(intervals.get(name), found[name], len(answered)))
        elif name in intervals:
            found[f"{name}_interval"] = list(intervals[name])
    return found


def show(found: dict[str, Any]) -> None:
    """The table before and after, for people."""
    stages = list(found["rows"])
    names = {
        "sft": "as loaded" if "loaded" in found else "after SFT",
        "improve": "after expert iteration",
        "ppo": "after step-level PPO",
    }
    lines = []
    for key, label, unit, _ in POLICY_MEASURES:
        values = [found["rows"][s].get(key) for s in stages]
        if any(v is not None for v in values):
            lines.append([label, *(_shown(v, unit) for v in values)])
    for stage in stages:
        if stage in found["prm"]:
            f1 = found["prm"][stage]["macro_f1"]
            lines.append([f"PRM macro-F1 on its steps ({stage})", *(f"{f1:.3f}" if s == stage else "" for s in stages)])
    where = f"{found['problems']} {found['split']} problems, temperature {found['temperature']:g}"
    table(where, ["", *(names.get(s, s) for s in stages)], lines)
    for note in found.get("notes", []):
        say(note)


def _shown(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if unit == "share" else f"{value:.{2 if value < 1 else 1}f}"
