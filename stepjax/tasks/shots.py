"""Solved problems that a prompt shows before the problem."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stepjax.config import PromptOptions
from stepjax.data.fields import field
from stepjax.data.sources import source_rows
from stepjax.errors import UserError
from stepjax.tasks.base import Problem, Task


@dataclass(frozen=True)
class Shot:
    problem: Problem
    solution: str


def shots_of(options: PromptOptions, task: Task, problem_of: Callable[[str], Problem]) -> Sequence[Shot]:
    """`options.shots` of them and one more, which takes the place of one that is the problem itself.

    UserError where the file or split train has fewer than `options.shots`.
    """
    found: list[Shot] = []
    if options.shots_file:
        for place, row in source_rows(options.shots_file):
            problem, solution = (field(row, name, str, place) for name in ("problem", "solution"))
            found.append(Shot(problem_of(problem), solution))
            if len(found) > options.shots:
                break
        where = options.shots_file
    else:
        problems, where = task.problems("train"), "split train"
        for i in range(len(problems)):
            if (solution := problems[i].solution) is not None:
                found.append(Shot(problems[i], solution))
            if len(found) > options.shots:
                break
    if len(found) < options.shots:
        raise UserError(f"config.prompt.shots={options.shots}: {where} has {len(found)} solved problems")
    return found
