"""The problems of a step-labelled dataset: its right solutions are demonstrations, its answers grade."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from stepjax.config import Config
from stepjax.data.dataset import Records, splits
from stepjax.data.schema import NO_ERROR, LabelledSolution
from stepjax.errors import UserError
from stepjax.tasks.base import Problem, StepRating, TaskEntry
from stepjax.tasks.drawn import ProblemsOnAccess
from stepjax.tasks.graders import AnswerGrader, GradesFinalAnswers, MarkedGrader, make_grader
from stepjax.tasks.hooks import PLAIN

_MOST_TEXTS = 20_000


class LabelledProblems(GradesFinalAnswers):
    """One problem per record, in the dataset's order; a record with a wrong step or answer is not a demonstration.

    Only the records' own steps have ratings, those of new responses do not: there is no verifier.
    """

    name = "labelled"

    def __init__(self, path: str, *, separator: str = "\n\n", grader: AnswerGrader | None = None):
        """UserError where `path` is not a dataset of records."""
        if not path:
            raise UserError("config.prm.data: task labelled takes its problems from there; name a dataset")
        self.separator, self._path = separator, Path(path)
        self.grader = grader or MarkedGrader()
        self._splits = splits(path)

    def problems(self, split: str) -> Sequence[Problem]:
        if split not in self._splits:
            return []
        records = Records(self._path, split)
        return ProblemsOnAccess(len(records), lambda i: self.problem(records[i], f"{records.split}/{i}"))

    def texts(self) -> Iterator[str]:
        """Texts to train a tokenizer on: problems and solutions, right or wrong, of the split train."""
        records = Records(self._path, "train")
        for i in range(min(len(records), _MOST_TEXTS)):
            record = records[i * len(records) // min(len(records), _MOST_TEXTS)]
            yield _prompt(record.problem) + self.separator.join(record.steps)

    def files(self) -> dict[str, Path]:
        return {str(self._path): self._path}

    def problem(self, record: LabelledSolution, name: str) -> Problem:
        right = record.first_error in (None, NO_ERROR) and record.correct is not False
        known = record.first_error == NO_ERROR or record.correct
        solution = self.separator.join(step.strip() for step in record.steps) if right and known else None
        return Problem(record.id or name, _prompt(record.problem), record.answer, solution)

    def rate_steps(self, problem: Problem, steps: Sequence[str]) -> list[StepRating] | None:
        """None: there is no verifier of a new response's steps."""
        return None


def _prompt(problem: str) -> str:
    return PLAIN.replace("{problem}", problem)


def _from_options(config: Config) -> LabelledProblems:
    separator = {"separator": config.task.separator} if config.task.separator else {}
    return LabelledProblems(config.prm.data, **separator, grader=make_grader(config.task))


TASK = TaskEntry(_from_options, final_answers=True)
