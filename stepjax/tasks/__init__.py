"""Problem sources with their verifiers, and the grading of answers."""

from stepjax.answers.grading import grade
from stepjax.tasks.base import Problem, StepRating, Task
from stepjax.tasks.gsm8k import check_calculations

__all__ = ["Problem", "StepRating", "Task", "check_calculations", "grade"]
