"""Problems of the user's own: rows with a problem, its final answer and, optionally, a worked solution."""

import dataclasses
import hashlib
import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from stepjax.config import Config, JsonlOptions, MathOptions
from stepjax.data.rows import Row
from stepjax.data.sources import source_files, source_rows
from stepjax.errors import UserError
from stepjax.tasks.base import Problem, StepRating, TaskEntry
from stepjax.tasks.graders import AnswerGrader, GradesFinalAnswers, MarkedGrader, make_grader
from stepjax.tasks.problem_rows import SLOT, ProblemFields

_VALID_SHARE = 8  # one in this many of the training problems belongs to the split valid
_MOST_VALID = 512


class FileProblems(GradesFinalAnswers):
    """Problems read from files or data sets and graded by their final answers; there is no verifier of single steps.

    The split "test" is its own source or, without one, the share of the training problems that a hash of the problem's
    text picks: the same problems on every machine, whatever their order. The split "valid" is picked likewise from the
    rest of the training problems: an eighth of them, at most 512, none where there are fewer than eight. A training row
    whose problem is in "test" or "valid" is left out of "train".
    """

    name = "files"

    def __init__(
        self,
        train: str | Path,
        test: str | Path | None = None,
        *,
        train_split: str = "",
        test_split: str = "",
        held_out: float = 0.1,
        problem: str = "problem",
        answer: str = "answer",
        solution: str = "solution",
        solution_pattern: str = "",
        separator: str = "\n\n",
        prompt: str = "{problem}\n",
        answer_prefix: str | None = None,
        grader: AnswerGrader | None = None,
    ):
        r"""Reads nothing yet: a source is read, once, when one of its splits is first asked for.

        Args:
          train: source of training problems (`stepjax.data.sources.source_rows`): a file, a glob, a folder, the hub.
          test: source of test problems; None or "" to hold out a share of `train`.
          train_split: split (or JSON key) of `train`; "": train.
          test_split: split (or JSON key) of `test`; "": test.
          held_out: that share, between 0 and 1.
          problem: field with the problem's text; `a.b` is a field inside of another one.
          answer: field with the final answer, bare (`42`, `\frac{1}{2}`, a JSON number) or marked (`#### 42`,
            `\boxed{42}`).
          solution: field with a worked solution, which rows may lack.
          solution_pattern: regular expression that finds the answer in the solution (first group of its last match).
          separator: the text between two steps of a solution.
          prompt: template of the policy's prompt, with `{problem}` for the problem's text.
          answer_prefix: where a response has no mark (`####`, a box, `<answer>`), the final answer is what follows the
            last occurrence of this text on its line; None or "": what the last line states ("Answer: 42").
          grader: decides whether a final answer is right, instead of the library and `answer_prefix`.

        Raises:
          UserError: for an option out of its range.
        """
        if SLOT not in prompt:
            raise UserError(f"{self.name}: the prompt template must contain {SLOT}, it is {prompt!r}")
        if not separator:
            raise UserError(f"{self.name}: the separator must not be empty")
        if not test and not 0 < held_out < 1:
            raise UserError(f"{self.name}: held_out must lie between 0 and 1, not {held_out}; or name a test file")
        if problem == answer:
            raise UserError(
                f"{self.name}: {problem!r} cannot be the field of both the problem and the answer; name two"
            )
        if not str(train or ""):
            raise UserError(f"{self.name}: no training file is named")
        self.train, self.test, self.held_out = str(train), str(test) if test else None, held_out
        self.source_splits = {"train": train_split, "test": test_split}
        self.fields = ProblemFields(problem, answer, solution, solution_pattern)
        self.separator = separator
        self.template = prompt
        self.grader = grader or MarkedGrader(answer_prefix)

    def problems(self, split: str) -> Sequence[Problem]:
        """The split "train", "valid" (empty for few problems) or "test"; an id names the row of its source, from 0.

        Raises:
          UserError: for another split, a source or row that cannot be read, or no problem for "train" or "test".
        """
        if split not in ("train", "valid", "test"):
            raise UserError(f"{self.name}: no split {split!r}; there are train, valid and test")
        return self._test if split == "test" else self._splits[split]

    def rate_steps(self, problem: Problem, steps: Sequence[str]) -> list[StepRating] | None:
        """None: there is no verifier of single steps."""
        return None

    def files(self) -> dict[str, Path]:
        """What the problems are read from, by the user's names."""
        found: dict[str, Path] = {}
        for source, name in ((self.train, "train"), (self.test, "test")):
            if source is not None:
                found |= source_files(source, self.source_splits[name], default=name)
        return found

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

    def _read(self, source: str, name: str) -> list[Problem]:
        problems: list[Problem] = []
        for row in source_rows(source, self.source_splits[name], default=name):
            problems.append(self._problem(row, f"{name}/{len(problems)}"))
        if not problems:
            raise UserError(f"{source}: {'the file has' if Path(source).is_file() else 'there are'} no problems")
        return problems

    def _problem(self, row: Row, name: str) -> Problem:
        return self.fields.problem_of(row, name, self.template, whole=self.grader.whole_answers)


def from_section(cls: type[FileProblems], section: JsonlOptions | MathOptions, config: Config) -> FileProblems:
    """The task that a section of the config describes."""
    fields = dataclasses.asdict(section)
    if config.task.separator:
        fields["separator"] = config.task.separator
    return cls(**fields, grader=make_grader(config.task, fields.get("answer_prefix"), cls.name))


TASK = TaskEntry(lambda config: from_section(FileProblems, config.task.files, config), final_answers=True)


def _hash(text: str) -> float:
    """A number in [0, 1) that is the same on every machine, unlike Python's own hash."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / (1 << 48)
