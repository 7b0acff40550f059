"""Who grades a task's final answers: the library, by marks or by the user's pattern, or a function of the user's."""

import logging
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Protocol

import regex

from stepjax.answers import grading
from stepjax.answers.marks import marked_answer
from stepjax.config import TaskOptions
from stepjax.errors import UserError, nearest
from stepjax.tasks.base import Problem
from stepjax.tasks.grader_process import GraderError, GraderProcess

PATTERN_SECONDS = 1.0  # for all matches of one response
_log = logging.getLogger(__name__)


class AnswerGrader(Protocol):
    """Decides whether a response's final answer is the right one.

    Attributes:
      whole_answers: whether `answer` is what the data say, not the final answer that is marked in it.
    """

    whole_answers: bool

    def grade(self, response: str, answer: str) -> bool:
        """Whether it is."""
        ...

    def grade_many(self, questions: Sequence[tuple[str, str]]) -> list[bool]:
        """The same of each (response, answer), in order."""
        ...

    def marked(self, response: str) -> str:
        """The response, or its final answer with a mark that the library finds; for votes."""
        ...


class MarkedGrader:
    """By the library's marks or, in a response without one, by what follows the last occurrence of `prefix`."""

    whole_answers = False

    def __init__(self, prefix: str | None = None):
        self.prefix = prefix

    def grade(self, response: str, answer: str) -> bool:
        return grading.grade(self.marked(response), answer)

    def grade_many(self, questions: Sequence[tuple[str, str]]) -> list[bool]:
        return [self.grade(*question) for question in questions]

    def marked(self, response: str) -> str:
        if not self.prefix or marked_answer(response) is not None:
            return response
        _, found, rest = response.rpartition(self.prefix)
        return "#### " + rest.strip().split("\n", 1)[0] if found else ""


class PatternGrader:
    """By the first group of the last match of a regular expression."""

    whole_answers = False

    def __init__(self, pattern: str, where: str = "config.task.answer_pattern"):
        """UserError where `pattern` is no regular expression or has no group."""
        try:
            self.pattern = regex.compile(pattern)
        except regex.error as error:
            raise UserError(f"{where}: {pattern!r} is not a regular expression: {error}") from None
        if not self.pattern.groups:
            raise UserError(f"{where}: {pattern!r} has no group; put the part that is the answer in parentheses")
        self.where = where
        self.late = 0

    def grade(self, response: str, answer: str) -> bool:
        marked = self.marked(response)
        return bool(marked) and grading.grade(marked, answer)

    def grade_many(self, questions: Sequence[tuple[str, str]]) -> list[bool]:
        return [self.grade(*question) for question in questions]

    def marked(self, response: str) -> str:
        """The first group with a mark; empty where nothing matches, or the search takes too long."""
        try:
            last = deque(self.pattern.finditer(response, timeout=PATTERN_SECONDS), maxlen=1)
        except TimeoutError:
            self.late += 1
            if self.late in (1, 10, 100, 1000):
                said = "takes longer than %g s on a response, %d times so far: counted as no answer"
                _log.warning("%s " + said, self.where, PATTERN_SECONDS, self.late)
            return ""
        found = " ".join((last[0][1] or "").split()) if last else ""
        if not found or marked_answer(found) is not None:
            return found
        return f"#### {found}"


class OwnGrader:
    """By a function of the user's, (response, answer) -> bool."""

    whole_answers = True

    def __init__(self, path: str, seconds: float, processes: int = 1, where: str = "config.task.grader"):
        """UserError where `path` names no function. Of the processes, a single response needs one."""
        module, _, name = path.partition(":")
        if not module or not name:
            raise UserError(f"{where}: must be written package.module:function, not {path!r}")
        self.where = f"{where}: {path}"
        self.processes = [GraderProcess(path, seconds) for _ in range(processes)]
        try:
            self.processes[0].start()
        except GraderError as error:
            raise UserError(f"{where}: {error}{nearest(name, error.known) if error.known else ''}") from None

    def grade(self, response: str, answer: str) -> bool:
        return self.grade_many([(response, answer)])[0]

    def grade_many(self, questions: Sequence[tuple[str, str]]) -> list[bool]:
        free: SimpleQueue[GraderProcess] = SimpleQueue()
        for process in self.processes:
            free.put(process)

        def ask(question: tuple[str, str]) -> bool:
            process = free.get()
            try:
                return process.ask(*question)
            except GraderError as error:
                raise UserError(f"{self.where} {error}") from None
            finally:
                free.put(process)

        if len(self.processes) == 1 or len(questions) < 2:
            return [ask(question) for question in questions]
        with ThreadPoolExecutor(len(self.processes)) as pool:
            return list(pool.map(ask, questions))

    def marked(self, response: str) -> str:
        return response


def make_grader(options: TaskOptions, prefix: str | None = None, section: str = "jsonl") -> AnswerGrader:
    """The grader that the options name; UserError where they name two, or one that does not work.

    `section` is that of the task, which `prefix` comes from.
    """
    if options.grader and options.answer_pattern:
        raise UserError("config.task.answer_pattern: config.task.grader reads responses by itself; leave one empty")
    if options.grader:
        return OwnGrader(options.grader, options.grader_seconds, options.grader_processes)
    if options.answer_pattern and prefix:
        raise UserError(f"config.task.answer_pattern: config.task.{section}.answer_prefix is set, too; leave one empty")
    return PatternGrader(options.answer_pattern) if options.answer_pattern else MarkedGrader(prefix)


class GradesFinalAnswers:
    """What tasks share whose problems have a final answer. A problem without one is never answered rightly."""

    grader: AnswerGrader

    def grade(self, problem: Problem, response: str) -> bool:
        """Whether the response's final answer is right."""
        return bool(problem.answer) and self.grader.grade(response, problem.answer)

    def grade_many(self, problems: Sequence[Problem], responses: Sequence[str]) -> list[bool]:
        """`grade` of each response, in order."""
        known = [i for i, problem in enumerate(problems) if problem.answer]
        verdicts = self.grader.grade_many([(responses[i], problems[i].answer) for i in known])
        found = dict(zip(known, verdicts, strict=True))
        return [found.get(i, False) for i in range(len(problems))]

    def group_answers(self, responses: Sequence[str]) -> list[int]:
        """Which responses give the same final answer, for votes; −1 where there is none."""
        return grading.group_answers([self.grader.marked(response) for response in responses])
