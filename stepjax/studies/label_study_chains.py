"""The study of labels on longer chains: demonstrations of eight operations, completers whose strength is set."""

import dataclasses
from typing import Any

from stepjax.data.schema import LabelledSolution
from stepjax.labels.solution import Solution
from stepjax.runs.setup import Run
from stepjax.studies.chain_completer import ChainCompleter
from stepjax.studies.label_study_figures import rate, study
from stepjax.tasks.register_chain import RegisterChain, RegisterChainConfig

OPERATIONS = 8
SOLUTIONS = 200
ERRORS = {"weak": 0.2, "middle": 0.05, "strong": 0.01}
"""Probability that a completer's derivation is false."""


def chain_study(run: Run, most: int) -> dict[str, Any]:
    """Figures by completer, as `study` has them, of noisy demonstrations whose errors are never corrected."""

    noise = {"false": 0.08, "repair": 0.0, "leap": 0.0, "restate": 0.1, "unneeded": 0.0}
    world = RegisterChainConfig(operations=(OPERATIONS, OPERATIONS), distractors=(0, 0), **noise)  # type: ignore[arg-type]
    task = RegisterChain(world)
    problems = task.problems("test")
    solutions = []
    for i in range(SOLUTIONS):
        problem = problems[i]
        assert problem.solution is not None
        tokens = tuple(run.prompt.response(problem.solution))
        right = task.grade(problem, problem.solution)
        record = LabelledSolution(problem.prompt, tuple(problem.solution.split("\n")), id=problem.id, correct=right)
        prompt = tuple(run.prompt(problem))
        step = run.splitter.split_host(tokens)[0]
        solutions.append(Solution(record, problem, prompt, tokens, step, True, right))
    rated = rate(dataclasses.replace(run, task=task), solutions)
    found: dict[str, Any] = {
        "operations": OPERATIONS,
        "steps": sum(s.steps for s in solutions) / len(solutions),
        "solutions": len(rated),
        "wrong": sum(j.first_error >= 0 for j in rated),
        "completers": {},
    }
    for name, error in ERRORS.items():
        completer = ChainCompleter(task, run.tokenizer, error=error, seed=run.config.label.seed)
        found["completers"][name] = {"is": {"error": error}, **study(rated, completer, most)}
    return found
