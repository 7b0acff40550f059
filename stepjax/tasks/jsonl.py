"""Problems of the user's own: JSONL rows with a problem, its final answer and, optionally, a worked solution."""

import dataclasses
import hashlib
import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from stepjax.answers.grading import final_answer
from stepjax.config import Config
from stepjax.data.jsonl import FieldType, read_jsonl
from stepjax.errors import UserError
from stepjax.tasks.base import Problem, StepRating, TaskEntry
from stepjax.tasks.graders import AnswerGrader, GradesFinalAnswers, MarkedGrader, make_grader

_SLOT = "{problem}"
_VALID_SHARE = 8  # one in this many of the training file's problems belongs to the split valid
_MOST_VALID = 512


class JsonlProblems(GradesFinalAnswers):
    """Problems read from JSONL files and graded by their final answers; there is no verifier of single steps.

    The split "test" is its own file or, without one, the share of the training file that a hash of the problem's text
    picks: the same problems on every machine, whatever their order. The split "valid" is picked likewise from the rest
    of the training file: an eighth of its problems, at most 512, none where there are fewer than eight. A training row
    whose problem is in "test" or "valid" is left out of "train".
    """

    name = "jsonl"

    def __init__(
        self,
        train: str | Path,
        test: str | Path | None = None,
        *,
        held_out: float = 0.1,
        problem: str = "problem",
        answer: str = "answer",
        solution: str = "solution",
        separator: str = "\n\n",
        prompt: str = "{problem}\n",
        answer_prefix: str | None = None,
        grader: AnswerGrader | None = None,
    ):
        r"""Reads nothing yet: a file is read when one of its splits is first asked for.

        Args:
          train: JSONL file of training problems.
          test: JSONL file of test problems; None or "" to hold out a share of `train`.
          held_out: that share, between 0 and 1.
          problem: field with the problem's text.
          answer: field with the final answer, bare (`42`, `\frac{1}{2}`, a JSON number) or marked (`#### 42`,
            `\boxed{42}`).
          solution: field with a worked solution, which rows may lack.
          separator: the text between two steps of a solution.
          prompt: template of the policy's prompt, with `{problem}` for the problem's text.
          answer_prefix: where a response has no mark (`####`, a box, `<answer>`), the final answer is what follows the
            last occurrence of this text on its line; None or "": what the last line states ("Answer: 42").
          grader: decides whether a final answer is right, instead of the library and `answer_prefix`.

        Raises:
          UserError: for an option out of its range.
        """
        if _SLOT not in prompt:
            raise UserError(f"jsonl: the prompt template must contain {_SLOT}, it is {prompt!r}")
        if not separator:
            raise UserError("jsonl: the separator must not be empty")
        if not test and not 0 < held_out < 1:
            raise UserError(f"jsonl: held_out must lie between 0 and 1, not {held_out}; or name a test file")
        if problem == answer:
            raise UserError(f"jsonl: {problem!r} cannot be the field of both the problem and the answer; name two")
        if not str(train or ""):
            raise UserError("jsonl: no training file is named")
        self.train, self.test, self.held_out = Path(train), Path(test) if test else None, held_out
        self.fields = (problem, answer, solution)
        self.separator = separator
        self.template = prompt
        self.grader = grader or MarkedGrader(answer_prefix)

    def problems(self, split: str) -> Sequence[Problem]:
        """The split "train", "valid" (empty for a small file) or "test"; an id names the row of its file, from 0.

        Raises:
          UserError: for another split, a file or row that cannot be read, or no problem for "train" or "test".
        """
        if split not in ("train", "valid", "test"):
            raise UserError(f"jsonl: no split {split!r}; there are train, valid and test")
        return self._test if split == "test" else self._splits[split]

    def rate_steps(self, problem: Problem, steps: Sequence[str]) -> list[StepRating] | None:
        """None: there is no verifier of single steps."""
        return None

    def files(self) -> list[Path]:
        return [path for path in (self.train, self.test) if path is not None]

    @cached_property
    def _splits(self) -> dict[str, list[Problem]]:
        """The training file, divided."""
        rows = self._read(self.train, "train")
        if self.test:
            known = {problem.prompt for problem in self._test}
            held = [problem.prompt in known for problem in rows]
            if any(held):
                count = sum(held)
                logging.getLogger(__name__).warning("%s: left out %d problems of %s", self.train, count, self.test)
        else:
            held = [_hash(problem.prompt) < self.held_out for problem in rows]
            if not any(held):
                raise UserError(
                    f"{self.train}: none of its {len(rows)} problems are held out for tests; raise held_out"
                )
        if all(held):
            raise UserError(
                f"{self.train}: all of its {len(rows)} problems are test problems, none are left to train on"
            )
        rest = [problem for problem, out in zip(rows, held, strict=True) if not out]
        # The largest hashes, as "test" has the smallest: raising held_out never moves a problem from "valid" to "test".
        texts = sorted({problem.prompt for problem in rest}, key=_hash, reverse=True)
        valid = set(texts[: min(_MOST_VALID, len(texts) // _VALID_SHARE)])
        return {
            "train": [problem for problem in rest if problem.prompt not in valid],
            "valid": [problem for problem in rest if problem.prompt in valid],
            "test": [problem for problem, out in zip(rows, held, strict=True) if out],
        }

    @cached_property
    def _test(self) -> list[Problem]:
        return self._read(self.test, "test") if self.test else self._splits["test"]

    def _read(self, path: Path, name: str) -> list[Problem]:
        problem, answer, solution = self.fields
        required: dict[str, FieldType] = {problem: str, answer: str | int | float}
        # One field may hold the solution and, marked in it, the answer, as GSM8K's does.
        optional: dict[str, FieldType] = {} if solution in required else {solution: str}
        problems: list[Problem] = []
        for line, row in read_jsonl(path, required=required, optional=optional):
            final = str(row[answer]).strip() if self.grader.whole_answers else _final(row[answer])
            if not row[problem].strip() or not final:
                empty = problem if final else answer
                raise UserError(f"{path}:{line}: field {empty!r} is empty")
            prompt = self.template.replace(_SLOT, row[problem])
            worked = row.get(solution)
            worked = None if worked is None else str(worked)
            columns = {name: value for name, value in row.items() if name not in (answer, solution)}
            problems.append(
                Problem(f"{name}/{len(problems)}", prompt, final, worked, question=row[problem], columns=columns)
            )
        if not problems:
            raise UserError(f"{path}: the file has no problems")
        return problems


def _from_options(config: Config) -> JsonlProblems:
    fields = dataclasses.asdict(config.task.jsonl)
    if config.task.separator:
        fields["separator"] = config.task.separator
    return JsonlProblems(**fields, grader=make_grader(config.task, config.task.jsonl.answer_prefix))


TASK = TaskEntry(_from_options, final_answers=True)


def _final(answer: Any) -> str:
    marked = final_answer(text := str(answer))
    return (text if marked is None else marked.text).strip()


def _hash(text: str) -> float:
    """A number in [0, 1) that is the same on every machine, unlike Python's own hash."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / (1 << 48)
