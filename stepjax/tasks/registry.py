"""Tasks and environments by their names in the config.

The row of a task is in its own module: `stepjax.tasks.NAME` has a constant `TASK`, an environment's `ENVIRONMENT`.
So a module is imported when its name is first asked for, and a new one is that module and its name in the config.
"""

import importlib
from typing import Any

from stepjax.config import TASK_NAMES, Config
from stepjax.errors import UserError, nearest
from stepjax.tasks.base import Environment, Task, TaskEntry


def task_entry(name: str) -> TaskEntry:
    """The row of a task; UserError where there is none of that name."""
    if name not in TASK_NAMES:
        raise UserError(f"config.task.name: no task {name!r}{nearest(name, TASK_NAMES)}")
    entry: TaskEntry = _module(name).TASK
    return entry


def make_task(config: Config) -> Task:
    """The problem source that the options name; UserError for one that is graded by rules of its own, not by those."""
    entry = task_entry(config.task.name)
    for option in ("grader", "answer_pattern"):
        if getattr(config.task, option) and not entry.final_answers:
            raise UserError(f"config.task.{option}: {config.task.name} grades by its own rules; leave it empty")
    return entry.make(config)


def make_environment(name: str) -> Environment:
    """The environment of a name that `config.ppo.environment` allows."""
    found: Environment = _module(name).ENVIRONMENT()
    return found


def _module(name: str) -> Any:
    return importlib.import_module(f"stepjax.tasks.{name}")
