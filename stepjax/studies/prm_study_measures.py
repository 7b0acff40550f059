"""Figures of process reward models on the same pools of responses in one world."""

import dataclasses
from typing import Any

import numpy as np

from stepjax.evaluation.best_of_n import make_pools
from stepjax.evaluation.prm import rated_solution
from stepjax.evaluation.scorer import score_steps
from stepjax.labels.completer import Completer
from stepjax.measures.best_of_n import best_of_n_report
from stepjax.measures.step_scores import step_score_report
from stepjax.runs.classifier import StepClassifier
from stepjax.runs.response_sampling import sample_problems
from stepjax.runs.responses import Response
from stepjax.runs.setup import Run
from stepjax.studies.prm_study_labels import with_values
from stepjax.tasks.register_chain import RegisterChain

FRESH = 16  # completions of each prefix, for the values that models are held against
VALUED = 64  # responses of which those are estimated

WORLDS: dict[str, dict[str, Any]] = {
    "trained in": {},
    "longer chains": {"operations": (3, 3)},
    "other names": {"shuffled_names": True},
}
"""What is different of the task's own options, by name."""


def in_world(run: Run, name: str) -> Run:
    """The run with the problems of a world."""
    world = dataclasses.replace(run.config.task.register_chain, **WORLDS[name])
    return dataclasses.replace(run, task=RegisterChain(world))


def measure(run: Run, policy: Any, models: dict[str, Any]) -> dict[str, Any]:
    """Figures by kind of label of the models that learned from it, on the policy's responses to held-out problems."""
    options = run.config
    responses = sample_problems(run, "sft", each=options.eval.pool)
    fresh = fresh_values(run, policy, responses)
    classifier = StepClassifier(run, rows=options.prm.rows, width=options.prm.row_tokens)
    found: dict[str, Any] = {"accuracy": float(np.mean([r.correct for r in responses])), "kinds": {}}
    for kind, params in models.items():
        scores = score_steps(classifier, params, responses)
        solutions = [
            rated_solution(response, of_one, options.eval.tuning, fresh.get(i, ()))
            for i, (response, of_one) in enumerate(zip(responses, scores, strict=True))
            if of_one is not None and len(response.steps)
        ]
        pools = make_pools(run.task, responses, scores, options.eval.pool)
        choice = best_of_n_report(pools, seed=options.seed)
        found["kinds"][kind] = step_score_report(solutions) | {"best_of_n": choice}
        found["left_out"] = classifier.left_out
    return found


def fresh_values(run: Run, policy: Any, responses: list[Response]) -> dict[int, tuple[float | None, ...]]:
    """Monte Carlo values of the steps of some responses, evenly over all of them, by the response's place."""
    chosen = [i for i in range(len(responses)) if responses[i].steps]
    chosen = chosen[:: max(len(chosen) // VALUED, 1)][:VALUED]
    completer = Completer(run, policy, rows=run.config.eval.rows, temperature=1.0, seed=run.config.seed)
    some = [responses[i] for i in chosen]
    solutions = with_values(run, some, completer, FRESH, enough=8 * completer.at_once, label="Fresh values")
    return {i: solution.record.values for i, solution in zip(chosen, solutions, strict=True)}
