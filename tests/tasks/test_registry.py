"""Tasks and environments by name: every row is found, makes what its name says, and declares what it can do."""

import dataclasses
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import stepjax.tasks
from stepjax.config import (
    ENVIRONMENT_NAMES,
    TASK_NAMES,
    Config,
    EnvironmentOptions,
    PPOOptions,
    PromptOptions,
    TaskOptions,
)
from stepjax.data.schema import LabelledSolution, line
from stepjax.errors import UserError
from stepjax.tasks import hooks
from stepjax.tasks.base import Task, TaskEntry
from stepjax.tasks.prompts import Prompt
from stepjax.tasks.registry import make_environment, make_task, task_entry

GSM8K = Path(__file__).parent.parent / "data" / "gsm8k"
HOOKS = {name: hook for name, hook in vars(hooks).items() if getattr(hook, "_is_runtime_protocol", False)}
CAN = {
    "register_chain": {
        *("GroupsAnswers", "WritesSolutions", "WritesNeutralSteps", "BreaksSteps"),
        *("TakesBackSteps", "HasDeadEnds", "MeasuresResponses"),
    },
    "countdown": {
        *("GroupsAnswers", "WritesSolutions", "WritesNeutralSteps", "BreaksSteps"),
        *("TakesBackSteps", "HasDeadEnds", "MeasuresResponses"),
    },
    "gsm8k": {"ReadsFiles", "GradesMany", "GroupsAnswers"},
    "math": {"ReadsFiles", "Templated", "GradesMany", "GroupsAnswers"},
    "files": {"ReadsFiles", "Templated", "GradesMany", "GroupsAnswers"},
    "jsonl": {"ReadsFiles", "Templated", "GradesMany", "GroupsAnswers"},
    "guess": set(),
    "labelled": {"ReadsFiles", "GradesMany", "GroupsAnswers", "TokenizerTexts"},
}


def option(cls: type, name: str) -> dataclasses.Field:
    return next(field for field in dataclasses.fields(cls) if field.name == name)


def modules_with(constant: str) -> set[str]:
    names = [module.name for module in pkgutil.iter_modules(stepjax.tasks.__path__)]
    return {name for name in names if hasattr(importlib.import_module(f"stepjax.tasks.{name}"), constant)}


def test_the_config_names_every_task_and_environment():
    assert set(TASK_NAMES) == modules_with("TASK") == set(CAN)
    doc = option(TaskOptions, "name").metadata["doc"]
    assert all(re.search(rf"\b{name}\b", doc) for name in TASK_NAMES)
    assert option(TaskOptions, "name").default in TASK_NAMES
    choices = option(PPOOptions, "environment").metadata["choices"]
    assert choices[0] == "" and set(choices[1:]) == modules_with("ENVIRONMENT")
    assert set(ENVIRONMENT_NAMES) == modules_with("TURNS")
    assert all(f"{name} (" in option(EnvironmentOptions, "name").metadata["doc"] for name in ENVIRONMENT_NAMES)
    assert all(f"{name} (" in option(PPOOptions, "environment").metadata["doc"] for name in choices[1:])


@pytest.fixture
def config(request, tmp_path) -> Config:
    """A config with the data that the task `request.param` reads."""
    name = request.param
    config = Config(task=TaskOptions(name=name, gsm8k=str(GSM8K)))
    if name in ("files", "jsonl", "math"):
        rows = [f'{{"problem": "{n}+1?", "answer": "{n + 1}"}}\n' for n in range(40)]
        (tmp_path / "train.jsonl").write_text("".join(rows))
        held = {} if name == "math" else {"held_out": 0.3}
        own = dataclasses.replace(getattr(config.task, name), train=str(tmp_path / "train.jsonl"), test="", **held)
        config = dataclasses.replace(config, task=dataclasses.replace(config.task, **{name: own}, separator="; "))
    if name == "labelled":
        record = LabelledSolution("1+1?", ("2",), answer="2", correct=True)
        (tmp_path / "records.jsonl").write_text(line(record))
        config = dataclasses.replace(config, prm=dataclasses.replace(config.prm, data=str(tmp_path / "records.jsonl")))
    return config


@pytest.mark.parametrize("config", TASK_NAMES, indirect=True)
def test_tasks_are_what_their_names_say(config):
    task = make_task(config)
    assert task.name == config.task.name and task.separator
    problem = task.problems("train")[0]
    mark = {"register_chain": "?", "guess": ""}.get(task.name, "#### ")
    derived = task.name == "countdown"  # an answer alone does not count there
    right = task.clean_solution(problem) if derived else mark + problem.answer
    assert problem.prompt and task.grade(problem, right) and not task.grade(problem, mark + "-7")
    methods = [name for name, value in vars(Task).items() if callable(value) and not name.startswith("_")]
    assert methods and all(callable(getattr(task, name)) for name in methods)
    assert {name for name, hook in HOOKS.items() if isinstance(task, hook)} == CAN[task.name]
    if config.task.separator:
        assert task.separator == "; ", "config.task.separator reaches the task"


def test_a_task_brings_its_tokenizer_where_its_row_says():
    assert [name for name in TASK_NAMES if task_entry(name).tokenizer is not None] == [
        "register_chain",
        "countdown",
        "guess",
    ]
    assert len(task_entry("register_chain").tokenizer()) > 4


def test_names_that_do_not_exist():
    for name in ("gsm9k", "base", "calculator", ""):
        with pytest.raises(UserError, match=rf"^config\.task\.name: no task '{name}' \("):
            task_entry(name)


def test_environments_are_made_by_name():
    assert make_environment("calculator").reply("<<48/2=") == "24>>"


def test_tasks_are_imported_when_they_are_asked_for():
    code = "import sys, stepjax.tasks.registry; print(*(m for m in sys.modules if m.startswith('stepjax.tasks.')))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "stepjax.tasks.registry" in loaded
    assert not {"stepjax.tasks.register_chain", "stepjax.tasks.jsonl", "stepjax.tasks.labelled"} & set(loaded)


def test_templates_and_what_stands_in_for_them():
    task, entry = type("Mine", (), {"template": "Q: {problem}\nA:"})(), TaskEntry(lambda config: None)
    framing = SimpleNamespace(tokenizer=SimpleNamespace(chat_template=None))
    plain = [Prompt(PromptOptions(), framing, of).problem_of(" 1+1?\n").prompt for of in (task, object())]
    assert plain == ["Q: 1+1?\nA:", "1+1?\n"] and entry.tokenizer is None
