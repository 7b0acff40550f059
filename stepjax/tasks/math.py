r"""MATH and problems like it: competition mathematics, answers in LaTeX, solutions that end in `\boxed{…}`."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from stepjax.answers.grading import final_answer
from stepjax.data.rows import Row
from stepjax.errors import UserError
from stepjax.tasks.base import Problem, TaskEntry
from stepjax.tasks.files import FileProblems, from_section
from stepjax.tasks.problem_rows import ProblemFields

_NAMES = {
    "problem": ("problem", "Problem", "question", "Question"),
    "answer": ("answer", "Answer", "expected_answer"),
    "solution": ("solution", "Solution"),
}
"""A field, and what public sets of this kind call it."""

_FIGURE = r"\[asy\].*?(?:\[/asy\]|\Z)"
_FORMULA = re.compile(
    r"\$\$.*?\$\$|(?<!\\)\$.*?(?<!\\)\$|\\\[.*?\\\]|\\\(.*?\\\)|\\begin\{(\w+)(\*?)\}.*?\\end\{\1\2\}", re.DOTALL
)
_STOP = re.compile(r"[.!?]\s*(?:\$\$|\$|\\\]|\\\)|\\end\{\w+\*?\})$")  # a formula that ends its sentence
_DRAWN, _WRITTEN, _ENDED = "\1", "\2", "\3."
"""Around the number of a figure, and of a formula, while a text is divided; after one that ends a sentence."""

_BLANK = re.compile(r"\n\s*\n")
_SENTENCE = re.compile(rf"(?<=[.!?])\s+(?=[A-Z{_WRITTEN}])")
_ABBREVIATION = re.compile(r"(?:\b[A-Z]|\b(?:e\.g|i\.e|etc|vs|cf|Fig|Eq|No|Dr|Mr|Ms|Mrs|St))\.$")


class MathProblems(FileProblems):
    r"""MATH as JSON Lines (`problem`, `solution`, `answer`, `subject`, `level`) and files with the same contents.

    MATH's own files lack `answer`: it is the solution's last box. MATH-500 and AIME serve as `test`; other spellings
    (`Problem`, `Answer`, `question`) are known. A solution's paragraphs are its steps, or where it has only one, its
    sentences; figures belong to the step before them. What is graded is the response's last box.
    """

    name = "math"

    def _problem(self, row: Row, name: str) -> Problem:
        named = {field: _called(row.value, field) for field in _NAMES}
        value = row.value
        if value.get(named["answer"]) is None:
            solution = value.get(named["solution"])
            found = final_answer(solution) if isinstance(solution, str) else None
            if found is None or not found.text:
                raise UserError(
                    f"{row.place}: no field 'answer', and no box in a field 'solution'; the row has "
                    f"{', '.join(map(repr, value)) or 'no fields'}"
                )
            value = {**value, named["answer"]: found.text}
        problem = ProblemFields(**named).problem_of(
            Row(row.place, value), name, self.template, whole=self.grader.whole_answers
        )
        if problem.solution is None:
            return problem
        return dataclasses.replace(problem, solution=self.separator.join(steps_of(problem.solution)))


def steps_of(solution: str) -> list[str]:
    """The steps of a reference solution: its paragraphs or, of a single paragraph, the sentences.

    Formulas and figures are never divided; a figure belongs to the step before it, the first one to the first step.
    """
    kept: list[str] = []

    def keep(mark: str, ended: bool, text: str) -> str:
        kept.append(_BLANK.sub("\n", text))
        return f"{mark}{len(kept) - 1}{mark}{_ENDED if ended else ''}"

    text = solution.replace("\r\n", "\n").strip()
    text = re.sub(rf"\s*({_FIGURE})", r"\n\1", text, flags=re.DOTALL).strip()
    text = re.sub(_FIGURE, lambda match: keep(_DRAWN, True, match[0]), text, flags=re.DOTALL)
    text = _FORMULA.sub(lambda match: keep(_WRITTEN, _STOP.search(match[0]) is not None, match[0]), text)
    parts = [part.strip() for part in _BLANK.split(text) if part.strip()]
    if len(parts) > 1 and parts[0].endswith(_DRAWN + _ENDED) and parts[0].startswith(_DRAWN):
        parts[:2] = [f"{parts[0]}\n{parts[1]}"]
    if len(parts) == 1:
        parts = _sentences(parts[0])
    place = re.compile(f"[{_DRAWN}{_WRITTEN}](\\d+)[{_DRAWN}{_WRITTEN}](?:{re.escape(_ENDED)})?")
    return [place.sub(lambda match: kept[int(match[1])], part) for part in parts]


def _sentences(text: str) -> list[str]:
    found: list[str] = []
    for piece in _SENTENCE.split(text):
        if found and _ABBREVIATION.search(found[-1]):
            found[-1] += f" {piece}"
        else:
            found.append(piece)
    return found


def _called(row: Mapping[str, Any], field: str) -> str:
    return next((name for name in _NAMES[field] if row.get(name) is not None), field)


TASK = TaskEntry(lambda config: from_section(MathProblems, config.task.math, config), final_answers=True)
