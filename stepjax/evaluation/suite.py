"""Evaluation of a policy on public benchmarks: avg@n, pass@k and maj@k of each, without any reward model."""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stepjax.config import EvalOptions
from stepjax.console.progress import say
from stepjax.errors import UserError
from stepjax.evaluation.best_of_n import answer_groups
from stepjax.evaluation.results import publish
from stepjax.evaluation.suite_file import Answered, SuiteFile
from stepjax.evaluation.suite_sampling import (
    Policy,
    as_sampled,
    benchmark_of,
    digest,
    is_trained,
    longest_response,
    policy_of,
    sample_into,
)
from stepjax.measures.benchmark import benchmark_report
from stepjax.parallel import is_main_process
from stepjax.runs.first_prompt import as_read, ends_of_responses
from stepjax.runs.setup import Run
from stepjax.tasks.base import Problem
from stepjax.tasks.benchmarks import Member, members_of
from stepjax.tasks.encoding import fitting_prompts
from stepjax.tasks.hooks import ReadsFiles
from stepjax.workdir.json_file import MEASURES, read_json

KIND = "suite"
FOLDER = Path("responses") / "suite"
SAMPLED = ("temperature", "top_k", "top_p", "min_p", "min_new_tokens", "seed")
"""Options of the sampling that the responses depend on."""
MOST_CUT = 0.1
"""Share of responses that are cut off from which on a note says so."""


def measure_suite(run: Run) -> dict[str, Any]:
    """Samples `eval.suite_samples` responses to each problem of each benchmark, and measures them.

    The figures of a benchmark and stage take the place of earlier ones in eval.json; those of others stay.
    """
    start, options = time.perf_counter(), run.config.eval
    if options.suite_samples > 1 and options.temperature == 0:
        raise UserError("config.eval.temperature: at 0 all responses to a problem are the same; raise it")
    seen, trained = as_sampled(run), is_trained(run)
    # All are read before the first is sampled: what is missing is said at once.
    suite = [(m, benchmark_of(seen, m)) for m in members_of(options.suite, options.suite_data)]
    problems = {member.name: task.all() for member, task in suite}
    policy = policy_of(run)
    first, task = suite[0]
    say(f"{as_read(dataclasses.replace(seen, task=task), problems[first.name][0])}; {ends_of_responses(run)}")
    known = training_texts(run) if trained else frozenset()
    found: dict[str, dict[str, Any]] = {}
    before = read_json(run.workdir / "eval.json").get(MEASURES)
    whole = dict(before.get(KIND, {}).get("members", {})) if isinstance(before, dict) else {}
    for member, task in suite:
        own = dataclasses.replace(seen, task=task)
        figures = _measure(own, member, policy, problems[member.name], known)
        found[member.name] = {policy.stage: figures}
        whole[member.name] = {**whole.get(member.name, {}), policy.stage: figures}
    notes = [f"{name}: {note}." for name, of in found.items() for note in of[policy.stage]["notes"]]
    shown = {"members": found, "notes": notes}
    return publish(run, KIND, {"members": whole}, since=start, shown=shown)


def _measure(
    run: Run, member: Member, policy: Policy, problems: Sequence[Problem], known: frozenset[str]
) -> dict[str, Any]:
    """The figures of one benchmark; `known`: texts of the problems that the policy was trained on."""
    start, options = time.perf_counter(), run.config.eval
    total = len(problems)
    prompts = fitting_prompts(run.prompt, problems[: options.suite_problems or total], width=2**31, where="")
    longest, notes = longest_response(run, member, prompts)
    made_with = {name: getattr(options, name) for name in SAMPLED} | {
        "policy": [policy.name, policy.version],
        "graded": [run.config.task.grader, run.config.task.answer_pattern],
        "max_new_tokens": longest,
        "prompts": digest(prompts),
    }
    path = run.workdir / FOLDER / f"{policy.stage}-{member.name}.jsonl"
    names = [f"{p.id}/{k}" for p in prompts.problems for k in range(options.suite_samples)]
    with SuiteFile(path, made_with, primary=is_main_process()) as file:
        sample_into(run, file, policy, prompts, names, longest, member.name)
        rows = file.rows(names)
    each = [rows[i : i + options.suite_samples] for i in range(0, len(rows), options.suite_samples)]
    right = np.array([[r.correct for r in some] for some in each])
    groups = np.array([answer_groups(run.task, some) for some in each])
    found: dict[str, Any] = benchmark_report(right, groups, seed=options.seed)
    if found["problems"] < total:
        notes.append(f"the first {found['problems']:,} of {total:,} problems")
    found |= {
        "stage": policy.stage,
        "policy": policy.name,
        "source": member.source,
        "total": total,
        **{name: getattr(options, name) for name in SAMPLED},
        "max_new_tokens": longest,
        "prompt": dataclasses.asdict(run.config.prompt),
        **_shares(rows, groups),
        **overlap(prompts.problems, right, known, notes),
    }
    if found["truncated"] > MOST_CUT:
        notes.append(f"{found['truncated']:.0%} of the responses were cut off at {longest} tokens (suite_tokens)")
    responses = str(path.relative_to(run.workdir))
    return found | {"notes": notes, "responses": responses, "seconds": round(time.perf_counter() - start, 2)}


def _shares(rows: Sequence[Answered], groups: np.ndarray) -> dict[str, float]:
    count = len(rows)
    return {
        "truncated": sum(not r.finished for r in rows) / count,
        "unanswered": float((groups < 0).mean()),
        "tokens": sum(r.tokens for r in rows) / count,
    }


def training_texts(run: Run) -> frozenset[str]:
    """The problems of the run's training data, where these are files."""
    if not isinstance(run.task, ReadsFiles):
        return frozenset()
    return frozenset(_plain(problem.text) for problem in run.task.problems("train"))


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def overlap(problems: Sequence[Problem], right: np.ndarray, known: frozenset[str], notes: list[str]) -> dict[str, Any]:
    """How many problems stand in the training data word for word, and the accuracy on the others."""
    clean = np.array([_plain(problem.text) not in known for problem in problems])
    if clean.all():
        return {"in_training": 0}
    without = float(right[clean].mean()) if clean.any() else None
    told = f"; without them {without:.1%} are right" if without is not None else ""
    notes.append(f"{(~clean).sum()} of the {len(problems)} problems are in the training data{told}")
    return {"in_training": int((~clean).sum()), "avg_without": without}


def kind_of(options: EvalOptions) -> str:
    """The kind of evaluation that the options ask for: a suite where one is named. UserError where both are given."""
    if not options.suite:
        return options.kind
    if options.kind not in (EvalOptions().kind, KIND):
        raise UserError(f"config.eval.suite: kind={options.kind} does not read it; leave one of the two out")
    return KIND


def reads_own_problems(options: EvalOptions) -> bool:
    """Whether the evaluation reads the task's problems, rather than a suite's."""
    return kind_of(options) != KIND
