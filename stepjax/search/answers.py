"""Values for a search's questions by its scorer, and what they cost beside the policy's continuations."""

from collections.abc import Sequence
from typing import Any, Protocol

from stepjax.search.ask import Asked, Cost, Score
from stepjax.search.scorers import Scorer, Written
from stepjax.tasks.encoding import Prompts


class Continuations(Protocol):
    """Answers `Expand` and `Forget`.

    Attributes:
      costs: of each problem, so far; `read` stays 0.
    """

    costs: list[Cost]

    def __call__(self, asked: Sequence[Asked]) -> list[Any]:
        """A list of `Sampled` for each `Expand`, None for each `Forget`; all of one call decode together."""
        ...


class Answers:
    """Answers `Score` for many problems, and counts what all of their answers cost."""

    def __init__(self, prompts: Prompts, continuations: Continuations, scorer: Scorer):
        self.prompts, self.continuations, self.scorer = prompts, continuations, scorer
        self._read = [0] * len(prompts.problems)

    @property
    def costs(self) -> list[Cost]:
        """Of each problem, so far."""
        return [cost + Cost(read=read) for cost, read in zip(self.continuations.costs, self._read, strict=True)]

    def scores(self, asked: Sequence[Asked]) -> list[float]:
        """Answers of `Score` alone."""
        found = self.scorer([self._written(one) for one in asked]) if asked else []
        for one, (_, read) in zip(asked, found, strict=True):
            self._read[one.problem] += read
        return [value for value, _ in found]

    def _written(self, asked: Asked) -> Written:
        assert isinstance(asked.question, Score)
        problem, prompt = self.prompts.problems[asked.problem], self.prompts.tokens[asked.problem]
        return Written(problem, tuple(prompt), asked.question.prefix)
