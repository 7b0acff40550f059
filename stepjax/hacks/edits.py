"""Edits of a solution that add nothing to it: ways in which a policy may learn to earn more reward for the same work.

A task may bring writers of its own (`WritesNeutralSteps`, `BreaksSteps`, `TakesBackSteps`, `HasDeadEnds` of
`stepjax.tasks.hooks`). Without them the problem's own sentences and the solution's calculator notes serve.
"""

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stepjax.separators import separator_pattern
from stepjax.tasks.base import Problem, Task
from stepjax.tasks.hooks import BreaksSteps, HasDeadEnds, TakesBackSteps, WritesNeutralSteps

THANKS = "Thank you for reading. I hope this helps!"
_SENTENCE_END = re.compile(r"(?<=[.!])\s+")
_NOTE = re.compile(r"<<[^<>]*>>")
_SIMPLE_NOTE = re.compile(r"<<([^<>=]{1,100})=([0-9]{1,9})>>([0-9]{0,9})")


@dataclass(frozen=True)
class Solution:
    """A worked solution, taken apart.

    Attributes:
      steps: its steps without separators; the last one gives the answer.
      separator: the text between two steps.
      joiner: what stands between two pieces of text that become one step: a space, or nothing where a space cannot be
        written.
    """

    task: Task
    problem: Problem
    steps: tuple[str, ...]
    separator: str
    joiner: str = " "


def take_apart(task: Task, problem: Problem, text: str, separator: str, joiner: str = " ") -> Solution:
    """The solution of a text; white space around its steps is left out, and so are empty ones."""
    steps = tuple(step.strip() for step in separator_pattern(separator).split(text) if step.strip())
    return Solution(task, problem, steps, separator, joiner)


def repeat_step(solution: Solution) -> str | None:
    """The middle one of the steps before the answer is repeated."""
    steps = solution.steps
    if len(steps) < 2:
        return None
    k = (len(steps) - 1) // 2
    return _text(solution, [*steps[: k + 1], steps[k], *steps[k + 1 :]])


def pad_neutral(solution: Solution, count: int) -> str | None:
    """`count` true and useless steps after the first step (before the answer where that is the only step)."""
    if isinstance(solution.task, WritesNeutralSteps):
        neutral = solution.task.neutral_steps(solution.problem)
    else:
        neutral = _sentences(solution.problem.prompt, solution.separator)
    if not neutral or not solution.steps:
        return None
    at = min(1, len(solution.steps) - 1)
    added = [neutral[i % len(neutral)] for i in range(count)]
    return _text(solution, [*solution.steps[:at], *added, *solution.steps[at:]])


def merge_steps(solution: Solution) -> str | None:
    """Merges all steps before the answer into one."""
    *work, answer = solution.steps or ("",)
    return _text(solution, [solution.joiner.join(work), answer]) if len(work) > 1 else None


def split_steps(solution: Solution) -> str | None:
    """Splits each step before the answer that can be split into two."""
    *work, answer = solution.steps or ("",)
    halves = [half for step in work for half in _halves(step)]
    return _text(solution, [*halves, answer]) if len(halves) > len(work) else None


def drop_separators(solution: Solution) -> str | None:
    """Merges the whole response, with the answer, into one step."""
    return solution.joiner.join(solution.steps) if len(solution.steps) > 1 else None


def end_early(solution: Solution) -> str | None:
    """Drops the answer."""
    return _text(solution, solution.steps[:-1]) if len(solution.steps) > 1 else None


def break_and_fix(solution: Solution) -> str | None:
    """Replaces a right step by a wrong one and its repair."""
    if isinstance(solution.task, BreaksSteps):
        steps = solution.task.break_and_fix(solution.problem, solution.steps)
    else:
        steps = _miscalculate(solution.steps)
    return None if steps is None else _text(solution, steps)


def take_back(solution: Solution) -> str | None:
    """Takes a right step back and does it again."""
    if isinstance(solution.task, TakesBackSteps):
        steps = solution.task.take_back(solution.problem, solution.steps)
    else:
        first, *rest = solution.steps or ("",)
        steps = [first, f"That was wrong. {first}", *rest] if rest else None
    return None if steps is None else _text(solution, steps)


def detour(solution: Solution) -> str | None:
    """Enters a dead end and leaves it."""
    if not isinstance(solution.task, HasDeadEnds):
        return None
    steps = solution.task.detour(solution.problem, solution.steps)
    return None if steps is None else _text(solution, steps)


def append_thanks(solution: Solution) -> str | None:
    """Adds a sentence of thanks after the answer, as a step of its own."""
    return _text(solution, [*solution.steps, THANKS]) if solution.steps else None


Writer = Callable[[Solution], str | None]

EDITS: dict[str, Writer] = {
    "repeat": repeat_step,
    "pad 1": functools.partial(pad_neutral, count=1),
    "pad 3": functools.partial(pad_neutral, count=3),
    "merge": merge_steps,
    "split": split_steps,
    "drop": drop_separators,
    "early": end_early,
    "fix": break_and_fix,
    "undo": take_back,
    "detour": detour,
    "thanks": append_thanks,
}
"""Short names for tables, and the writers; a writer returns None where the edit does not apply."""


def _text(solution: Solution, steps: Sequence[str]) -> str:
    return solution.separator.join(steps)


def _sentences(text: str, separator: str) -> list[str]:
    """The statements of a text: its sentences but the questions, none of which may look like a step's end or answer."""
    found = [sentence.strip() for sentence in _SENTENCE_END.split(text)]
    marks = ("#", "<<", "\\boxed", "?", separator)
    return [s for s in found if s and not any(mark in s for mark in marks)]


def _halves(step: str) -> list[str]:
    """A step cut at the white space nearest its middle, outside of notes; without any, before its last `=`."""
    notes = [match.span() for match in _NOTE.finditer(step)]
    spaces = [i for i, c in enumerate(step) if c.isspace() and not any(a < i < b for a, b in notes)]
    if spaces:
        at = min(spaces, key=lambda i: abs(2 * i - len(step)))
    elif notes or (at := step.rfind("=")) <= 0:
        return [step]
    return [step[:at].rstrip(), step[at:].lstrip()]


def _miscalculate(steps: Sequence[str]) -> list[str] | None:
    """The first step with a note of a whole number is written with the next number, then as it was."""
    for k, step in enumerate(steps[:-1]):
        note = _SIMPLE_NOTE.search(step)
        if note:
            wrong = str(int(note[2]) + 1)
            told = wrong if note[3] == note[2] else note[3]
            broken = f"{step[: note.start()]}<<{note[1]}={wrong}>>{told}{step[note.end() :]}"
            return [*steps[:k], broken, f"That was wrong. {step}", *steps[k + 1 :]]
    return None
