"""Tasks and environments by their names in the config.

The row of a task is in its own module: `stepjax.tasks.NAME` has a constant `TASK`, that of what writes into a response
while it is sampled `ENVIRONMENT`, that of an environment over turns `TURNS`.
So a module is imported when its name is first asked for, and a new one is that module and its name in the config.
"""

import importlib
import json
from typing import Any

from stepjax.config import ENVIRONMENT_NAMES, TASK_NAMES, Config, EnvironmentOptions
from stepjax.errors import UserError, nearest
from stepjax.tasks.base import Environment, Task, TaskEntry
from stepjax.tasks.environment_pool import EnvironmentPool


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


def check_environment(options: EnvironmentOptions) -> tuple[str, dict[str, Any]]:
    """`package.module:Class` of an environment over turns, and its keyword arguments; UserError for a wrong name or
    option. Nothing is imported."""
    name = options.name
    if ":" not in name:
        if name not in ENVIRONMENT_NAMES:
            raise UserError(
                f"config.environment.name: no environment {name!r}{nearest(name, ENVIRONMENT_NAMES)}; a class of your "
                "own is written package.module:Class"
            )
        name = f"stepjax.tasks.{name}:TURNS"
    arguments: dict[str, Any] = {}
    for text in options.options:
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier() or key in arguments:
            raise UserError(f"config.environment.options: {text!r} must be NAME=VALUE, each NAME once")
        try:
            arguments[key] = json.loads(value)
        except ValueError:
            arguments[key] = value
    return name, arguments


def open_environment(options: EnvironmentOptions) -> tuple[EnvironmentPool, str]:
    """The pool of an environment over turns, whose first process runs, and the class's `call`.

    UserError where the class cannot be imported or made.
    """
    path, arguments = check_environment(options)
    pool = EnvironmentPool(path, arguments, seconds=options.seconds, processes=options.processes, calls=options.calls)
    return pool, pool.start()


def _module(name: str) -> Any:
    return importlib.import_module(f"stepjax.tasks.{name}")
