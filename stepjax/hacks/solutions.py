"""Held-out solutions and their edited versions, as rated responses."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from stepjax.data.tokenizers import encode
from stepjax.errors import UserError
from stepjax.hacks.edits import EDITS, Solution, Writer, take_apart
from stepjax.runs.responses import Response, read_response
from stepjax.runs.setup import Run
from stepjax.tasks.base import Problem
from stepjax.tasks.encoding import Prompts
from stepjax.tasks.hooks import WritesSolutions

NO_PLACE = "the edit does not apply, or cannot be written in this task"
UNWRITABLE = "the tokenizer cannot write it"


@dataclass
class Edited:
    """One edit over a set of solutions.

    Attributes:
      responses: the edited solutions by the number of their original.
      skipped: how many solutions were not edited, by reason.
    """

    responses: dict[int, Response] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)


@dataclass
class SolutionSet:
    """Solutions of one kind: originals, and their edits by name."""

    originals: list[Response]
    edits: dict[str, Edited]


def solution_texts(run: Run, problem: Problem) -> dict[str, str]:
    """Solutions of a problem by kind: "exact" (the task can write a right one), "real" (its demonstration)."""
    found = {}
    if isinstance(run.task, WritesSolutions):
        found["exact"] = run.task.clean_solution(problem)
    if problem.solution is not None:
        found["real"] = problem.solution
    return found


def edit_solutions(
    run: Run, prompts: Prompts, writers: dict[str, Writer] = EDITS, bar: Any = None
) -> dict[str, SolutionSet]:
    """Every solution of the problems, edited in every way and rated by the task; a set has at least one solution.

    UserError where responses are asked for in tags, which solutions have not.
    """
    if run.config.prompt.structure:
        raise UserError(
            f"config.prompt.structure={run.config.prompt.structure}: the battery edits solutions, which are not in "
            "tags; leave the structure out"
        )
    separator = run.config.task.separator or run.task.separator
    joiner = " " if is_writable(run.tokenizer, "1 1") else ""
    found: dict[str, SolutionSet] = {}
    for problem, prompt in zip(prompts.problems, prompts.tokens, strict=True):
        for kind, text in solution_texts(run, problem).items():
            chosen = found.setdefault(kind, SolutionSet([], {name: Edited() for name in writers}))
            solution = take_apart(run.task, problem, text, separator, joiner)
            original = separator.join(solution.steps)
            if solution.steps and is_writable(run.tokenizer, original):
                _edit(run, chosen, solution, prompt, original, writers)
        if bar is not None:
            bar.advance(1)
    return {kind: chosen for kind, chosen in found.items() if chosen.originals}


def _edit(
    run: Run, chosen: SolutionSet, solution: Solution, prompt: Sequence[int], original: str, writers: dict[str, Writer]
) -> None:
    number = len(chosen.originals)
    chosen.originals.append(_respond(run, solution.problem, prompt, original))
    for name, write in writers.items():
        edited, text = chosen.edits[name], write(solution)
        if text is None or text == original:
            edited.skipped[NO_PLACE] += 1
        elif not is_writable(run.tokenizer, text):
            edited.skipped[UNWRITABLE] += 1
        else:
            edited.responses[number] = _respond(run, solution.problem, prompt, text)


def _respond(run: Run, problem: Problem, prompt: Sequence[int], text: str) -> Response:
    return read_response(run, problem, prompt, run.prompt.response(text), True)


def is_writable(tokenizer: Any, text: str) -> bool:
    """Whether decoding the tokens gives the text back."""
    decoded = tokenizer.decode(encode(tokenizer, text), clean_up_tokenization_spaces=False)
    return decoded.strip() == text.strip()
