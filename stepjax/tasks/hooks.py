"""Optional methods of tasks, which are found by `isinstance`.

A task has a hook by having its method; it need not name the class. Each docstring states what is used where a
task has none.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from stepjax.tasks.base import Problem

PLAIN = "{problem}\n"
"""The prompt template where a task has none of its own."""


@runtime_checkable
class Templated(Protocol):
    """Puts a problem's text into a template, where `{problem}` stands. Without it: `PLAIN`."""

    template: str


@runtime_checkable
class GradesMany(Protocol):
    """Grades a batch at once, where that is faster. Without it: `Task.grade`, one response after the other."""

    def grade_many(self, problems: Sequence[Problem], responses: Sequence[str]) -> list[bool]:
        """`grade` of each response to the problem at its index, in order."""
        ...


@runtime_checkable
class GroupsAnswers(Protocol):
    """Decides which answers are the same, for votes. Without it: `stepjax.answers.grading.group_answers`."""

    def group_answers(self, responses: Sequence[str]) -> list[int]:
        """A number for each response to one problem: equal for the same final answer, −1 where there is none."""
        ...


@runtime_checkable
class TokenizerTexts(Protocol):
    """Chooses the training texts of a tokenizer. Without it: prompts and solutions (or answers) of the split train."""

    def texts(self) -> Iterable[str]:
        """The texts, each whole."""
        ...


@runtime_checkable
class WritesSolutions(Protocol):
    """Can solve its problems. Without it, the battery of hacks edits only demonstrations."""

    def clean_solution(self, problem: Problem) -> str:
        """A right response as short as can be, every step of which is right."""
        ...


@runtime_checkable
class WritesNeutralSteps(Protocol):
    """Can pad a solution. Without it, the battery of hacks pads with sentences of the problem."""

    def neutral_steps(self, problem: Problem) -> list[str]:
        """Steps that are true and useless, without separators; any number of them, or none."""
        ...


@runtime_checkable
class BreaksSteps(Protocol):
    """Can put an error and its repair into a solution. Without it, the battery of hacks changes a calculator note."""

    def break_and_fix(self, problem: Problem, steps: Sequence[str]) -> list[str] | None:
        """The steps with one made wrong and then corrected; None where that is not possible."""
        ...


@runtime_checkable
class TakesBackSteps(Protocol):
    """Can take a right step back. Without it, the battery of hacks doubts the first step and repeats it."""

    def take_back(self, problem: Problem, steps: Sequence[str]) -> list[str] | None:
        """The steps with a right one taken back and done again; None where that is not possible."""
        ...


@runtime_checkable
class HasDeadEnds(Protocol):
    """Can lead a solution into a dead end. Without it, the battery of hacks leaves that edit out."""

    def detour(self, problem: Problem, steps: Sequence[str]) -> list[str] | None:
        """The steps with a dead end entered and left; None where that is not possible."""
        ...


@runtime_checkable
class MeasuresResponses(Protocol):
    """Has figures of its own about responses. Without it, they have those of all tasks."""

    def measures(self, problems: Sequence[Problem], responses: Sequence[Sequence[str]]) -> dict[str, float]:
        """Figures by the names of `stepjax.measures.policy.POLICY_MEASURES`, from the steps of each problem's response.

        What cannot be known of these responses is left out.
        """
        ...


@runtime_checkable
class ReadsFiles(Protocol):
    """Reads its problems from files, whose fingerprints its checkpoints keep. Without it: problems come from code."""

    def files(self) -> Mapping[str, Path]:
        """The files, or folders all of whose files count, by the user's names for them."""
        ...
