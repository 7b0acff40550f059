"""The interface of a task: problems with known answers, a grader, and optionally an exact verifier of single steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

PLAIN = "{problem}\n"
"""The prompt template where a task has none of its own."""


@dataclass(frozen=True)
class Problem:
    """One problem. `prompt` is what the policy reads, `solution` a demonstration in the policy's own format.

    `step_limit` is the most steps that the prompt allows, None where it does not state it. `question` is the problem
    alone, None where the prompt is no more than that.
    """

    id: str
    prompt: str
    answer: str
    solution: str | None = None
    step_limit: int | None = None
    question: str | None = None

    @property
    def text(self) -> str:
        """The problem alone, without the prompt template."""
        return (self.prompt if self.question is None else self.question).strip()


@dataclass(frozen=True)
class StepRating:
    """The exact rating of one step.

    Attributes:
      rating: +1 good (correct and advances), 0 neutral (true but useless), -1 bad (wrong).
      correct: whether the step is right; None where the task cannot decide (its trace error is then not reported).
      kind: a word for tables ("derive", "restate", "calculation", …).
    """

    rating: int
    correct: bool | None
    kind: str = ""


class Task(Protocol):
    """A problem source with its verifiers.

    Splits are "train", "valid" and "test"; no two of them share a problem. "valid" may be empty where there are few.
    """

    name: str
    separator: str  # the text between two steps

    def problems(self, split: str) -> Sequence[Problem]:
        """The problems of a split, by random access (`len` and `[i]`); the same index gives the same problem."""
        ...

    def grade(self, problem: Problem, response: str) -> bool:
        """Whether the response's final answer is right."""
        ...

    def rate_steps(self, problem: Problem, steps: Sequence[str]) -> list[StepRating] | None:
        """One exact rating per step, or None where the task has no step verifier."""
        ...


@runtime_checkable
class Templated(Protocol):
    """A task that puts a problem's text into a template, where `{problem}` stands."""

    template: str


def prompt_of(task: Task, problem: str) -> str:
    """The prompt of a problem's text; a text that ends in a line break is a prompt already."""
    if problem.endswith("\n"):
        return problem
    template = task.template if isinstance(task, Templated) else PLAIN
    return template.replace("{problem}", problem)
