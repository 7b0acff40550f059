"""Rows to problems: which fields hold the text, the answer and the solution."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import regex

from stepjax.answers.grading import final_answer
from stepjax.data.fields import field
from stepjax.data.rows import Row
from stepjax.errors import UserError
from stepjax.tasks.base import Problem
from stepjax.tasks.conversation_rows import MESSAGES, is_conversation, read_conversation

SLOT = "{problem}"
PATTERN_SECONDS = 0.5
"""Processor time that an answer's pattern gets for a solution; a nested repetition could take for ever."""


@dataclass(frozen=True)
class ProblemFields:
    r"""The fields of a row by name, inside of others as `a.b`.

    Attributes:
      problem: the problem's text.
      answer: the final answer, bare (`42`, `\frac{1}{2}`, a JSON number) or marked (`#### 42`, `\boxed{42}`).
      solution: a worked solution, which rows may lack.
      pattern: a regular expression; where it is given, the answer is what its first group (or all of it) matches last
        in the solution, and the field `answer` is not read.
    """

    problem: str = "problem"
    answer: str = "answer"
    solution: str = "solution"
    pattern: str = ""

    def __post_init__(self) -> None:
        if self.pattern:
            try:
                regex.compile(self.pattern)
            except regex.error as error:
                raise UserError(f"solution_pattern {self.pattern!r}: not a regular expression ({error})") from None

    def problem_of(self, row: Row, name: str, template: str, *, whole: bool = False) -> Problem:
        """The problem of a row, called `name`; its answer is what is marked in the field, or with `whole` all of it.

        A row without that field may hold the problem in `messages` (`read_conversation`); without an answer it is what
        the solution marks, or its last line. UserError, with the row's place, for what is missing or empty.
        """
        if self.problem not in row.value and is_conversation(row.value):
            return self._of_conversation(row, name, template, whole=whole)
        text = field(row.value, self.problem, str, row.place)
        # One field may hold the solution and, marked in it, the answer, as GSM8K's does.
        optional = self.solution not in (self.problem, self.answer) and not self.pattern
        kinds = str if optional or self.pattern else str | int | float
        worked = field(row.value, self.solution, kinds, row.place, optional=optional)
        if self.pattern:
            answer = self._by_pattern(worked, row.place)
        else:
            answer = str(field(row.value, self.answer, str | int | float, row.place)).strip()
            answer = answer if whole else marked(answer)
        if not text.strip() or not answer:
            raise UserError(f"{row.place}: field {(self.answer if text.strip() else self.problem)!r} is empty")
        worked = None if worked is None or not str(worked).strip() else str(worked)
        hidden = {self.answer, self.answer.split(".")[0], self.solution, self.solution.split(".")[0]}
        return Problem(
            name, template.replace(SLOT, text), answer, worked, question=text, columns=columns(row.value, hidden)
        )

    def _of_conversation(self, row: Row, name: str, template: str, *, whole: bool) -> Problem:
        found = read_conversation(row.value, row.place)
        worked = field(row.value, f"{MESSAGES}.{len(row.value[MESSAGES]) - 1}.content", str, row.place)
        if self.pattern:
            answer = self._by_pattern(worked, row.place)
        elif self.answer in row.value:
            answer = str(field(row.value, self.answer, str | int | float, row.place)).strip()
            answer = answer if whole else marked(answer)
        else:
            stated = final_answer(worked)
            answer = (worked.strip().splitlines() or [""])[-1] if stated is None else stated.text.strip()
        for role, text in (("user", found.problem), ("assistant", answer)):
            if not text.strip():
                raise UserError(f"{row.place}: the message of the {role} is empty")
        return Problem(
            name,
            template.replace(SLOT, found.problem.strip()),
            answer,
            found.solution,
            question=found.problem,
            columns=columns(row.value, {self.answer, MESSAGES}) | ({"system": found.system} if found.system else {}),
            unlearned=found.unlearned,
        )

    def _by_pattern(self, solution: str, where: str) -> str:
        try:
            matches: list[Any] = list(regex.finditer(self.pattern, solution, timeout=PATTERN_SECONDS))
        except TimeoutError:
            raise UserError(f"{where}: solution_pattern {self.pattern!r} takes too long on this solution") from None
        found = (matches[-1][1 if matches[-1].re.groups else 0] or "").strip() if matches else ""
        if not found:
            raise UserError(f"{where}: solution_pattern {self.pattern!r} finds nothing in field {self.solution!r}")
        return found


def marked(text: str) -> str:
    """The final answer that a text holds: what is marked, or all of it."""
    found = final_answer(text)
    return (text if found is None else found.text).strip()


def columns(row: Mapping[str, Any], hidden: Collection[str]) -> dict[str, Any]:
    """What else a row holds; a table writes null where an object has no such field."""
    return {name: _present(value) for name, value in row.items() if name not in hidden and value is not None}


def _present(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _present(entry) for name, entry in value.items() if entry is not None}
    return [_present(entry) for entry in value] if isinstance(value, list) else value
