"""Problems to tokens: demonstrations to learn from, labelled steps, prompts to sample from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stepjax.data.packing import PROMPT, Example
from stepjax.data.step_encoding import SolutionEncoder
from stepjax.errors import UserError
from stepjax.steps import StepSplitter
from stepjax.tasks.base import Problem
from stepjax.tasks.prompts import Prompt

WIDTH_UNIT = 32
"""Tokens of which prompts are padded to a multiple: one program serves those of nearly the same width."""


def demonstration(prompt: Prompt, problem: Problem, *, prompt_loss: bool = False) -> Example:
    """Prompt, solution and its end; what the assistant writes (all tokens with `prompt_loss`) are targets.

    Prompt and solution are encoded separately, as they are when the policy samples after a prompt. What the problem's
    `unlearned` covers is read and is no target.
    """
    assert problem.solution is not None
    read, written = prompt.demonstration(problem)
    tokens = np.array([*read, *written], np.int32)
    targets = np.append(tokens[1:], -1).astype(np.int32)
    if not prompt_loss:
        targets[: len(read) - 1] = -1
    for number in prompt.unlearned(problem):
        targets[len(read) + number - 1] = -1
    return Example(tokens, targets)


def labelled_steps(prompt: Sequence[int], response: Sequence[int], ends: np.ndarray, labels: Sequence[int]) -> Example:
    """A response whose step ends (bool, one a response token) carry the classes `labels`, in order.

    The prompt's tokens have the target `PROMPT`.
    """
    if int(ends.sum()) != len(labels):
        raise ValueError(f"{int(ends.sum())} steps, but {len(labels)} labels")
    targets = np.full(len(response), -1, np.int32)
    targets[ends] = labels
    tokens = np.array([*prompt, *response], np.int32)
    return Example(tokens, np.concatenate([np.full(len(prompt), PROMPT, np.int32), targets]))


def solution_encoder(prompt: Prompt, splitter: StepSplitter) -> SolutionEncoder:
    """The encoder of labelled solutions, with the policy's prompts."""
    return SolutionEncoder(splitter, prompt.framing.tokenizer, prompt.of_text, prompt.response)


@dataclass(frozen=True)
class Prompts:
    """Prompts ready to sample from.

    Attributes:
      problems: those that fit.
      tokens: their prompts, ids.
      left_out: how many problems have a prompt longer than the limit.
    """

    problems: list[Problem]
    tokens: list[list[int]]
    left_out: int

    @property
    def width(self) -> int:
        """Tokens of the longest one, rounded up to a multiple of `WIDTH_UNIT`: for a program of no given width."""
        return -(-max(map(len, self.tokens)) // WIDTH_UNIT) * WIDTH_UNIT


def fitting_prompts(prompt: Prompt, problems: Sequence[Problem], *, width: int, where: str) -> Prompts:
    """Encodes prompts and leaves out those longer than `width` tokens; `where` names the option in errors."""
    if not problems:
        raise UserError("there are no problems to sample responses to; choose another split or more problems")
    kept, tokens = [], []
    for problem in problems:
        ids = prompt(problem)
        if not ids:
            raise UserError(f"problem {problem.id}: its prompt is empty")
        if len(ids) <= width:
            kept.append(problem)
            tokens.append(ids)
    if not kept:
        raise UserError(f"{where}={width}: every prompt is longer than that; raise it")
    return Prompts(kept, tokens, len(problems) - len(kept))
