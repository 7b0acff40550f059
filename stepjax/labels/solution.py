"""A solution to be labelled, and the completions of its prefixes."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from stepjax.data.schema import LabelledSolution
from stepjax.judges.cost import Cost
from stepjax.tasks.base import Problem


@dataclass(frozen=True)
class Prefix:
    """The beginning of a response, in the tokens that were sampled.

    Attributes:
      prompt: the problem's prompt.
      tokens: the response so far; empty at its start.
    """

    problem: Problem
    prompt: tuple[int, ...]
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Request:
    """Completions of a prefix: the ones numbered from `first` on, `count` of them.

    The same prefix and number always mean the same completion.
    """

    prefix: Prefix
    count: int
    first: int = 0


@dataclass(frozen=True)
class Completion:
    """A sampled continuation of a prefix.

    Attributes:
      tokens: those of the completion alone, its end-of-text token included.
      finished: False where it was cut off.
      correct: whether prefix and completion together end in the right answer.
    """

    tokens: tuple[int, ...]
    finished: bool
    correct: bool


Complete = Callable[[Sequence[Request]], list[list[Completion]]]
"""The engine: all completions of all requests, in order."""


@dataclass(frozen=True)
class Solution:
    """A solution in tokens.

    Attributes:
      record: its problem and steps as text, and its name (`id`).
      prompt, tokens: ids; `tokens` holds the end-of-text token where the solution is finished.
      step: int32[n], the step of each of `tokens`; never decreases.
      finished: False where it was cut off in its last step.
      correct: whether its final answer is right; False where it is not finished.
    """

    record: LabelledSolution
    problem: Problem
    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    step: Int[np.ndarray, " n"]
    finished: bool
    correct: bool

    @property
    def steps(self) -> int:
        return len(self.record.steps)

    def prefix(self, steps: int) -> Prefix:
        """Its first `steps` steps; 0: none."""
        return Prefix(self.problem, self.prompt, self.tokens[: int(np.searchsorted(self.step, steps))])


@dataclass(frozen=True)
class Estimate:
    """The value of a prefix by sampling.

    Attributes:
      correct, total: completions that were right, and all of them.
      tokens: how many were sampled for it.
      outcome: for a whole solution, which needs no samples: whether its answer is right.
    """

    correct: int = 0
    total: int = 0
    tokens: int = 0
    outcome: bool | None = None

    @property
    def value(self) -> float:
        """Share of right completions."""
        if self.outcome is not None:
            return float(self.outcome)
        return self.correct / self.total

    @property
    def reachable(self) -> bool:
        """Whether any completion was right: the hard label [Wang 2023]."""
        return self.value > 0

    @property
    def cost(self) -> Cost:
        return Cost(self.total, self.tokens)

    def add(self, found: Sequence[Completion]) -> "Estimate":
        return dataclasses.replace(
            self,
            correct=self.correct + sum(c.correct for c in found),
            total=self.total + len(found),
            tokens=self.tokens + sum(len(c.tokens) for c in found),
        )
