"""The task `files` by the name, and with the options, that it first had."""

from stepjax.tasks.base import TaskEntry
from stepjax.tasks.files import FileProblems, from_section


class JsonlProblems(FileProblems):
    name = "jsonl"


TASK = TaskEntry(lambda config: from_section(JsonlProblems, config.task.jsonl, config), final_answers=True)
