"""A world of tables that answers a search exactly: a policy over symbols, each a step, and values of prefixes.

It needs no model, and what a method does in it can be computed by hand.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stepjax.search.ask import Asked, Cost, End, Expand, Forget, Sampled, Score

Prefix = tuple[int, ...]
Draw = Callable[[Sequence[float], tuple[int, ...]], int]
"""From probabilities and a key, such as (problem, number, time): the number of the outcome."""


def keyed_draw(seed: int) -> Draw:
    """The same outcome for the same key, as the engine's random keys give it."""

    def draw(probabilities: Sequence[float], key: tuple[int, ...]) -> int:
        digest = hashlib.blake2b(repr((seed, *key)).encode(), digest_size=8).digest()
        left = int.from_bytes(digest, "big") / (1 << 64)
        for i, p in enumerate(probabilities):
            left -= p
            if left < 0:
                return i
        return max(i for i, p in enumerate(probabilities) if p > 0)

    return draw


@dataclasses.dataclass
class TableWorld:
    """Answers questions, each in its place; every step is one token.

    Attributes:
      policy: the probabilities of the next token behind a prefix.
      ends: tokens that end a response.
      value: of a prefix.
      longest: tokens of the longest response.
      draw: what is sampled.
      cost: of all answers so far.
      log: all questions, with their answers.
    """

    policy: Callable[[Prefix], Mapping[int, float]]
    ends: frozenset[int]
    value: Callable[[Prefix], float] = lambda prefix: 0.5
    longest: int = 1000
    draw: Draw = dataclasses.field(default_factory=lambda: keyed_draw(0))
    cost: Cost = dataclasses.field(default_factory=Cost)
    log: list[tuple[Any, Any]] = dataclasses.field(default_factory=list)

    def __call__(self, questions: Sequence[Asked]) -> list[Any]:
        answers = [self._answer(asked.problem, asked.question) for asked in questions]
        self.log += [(asked.question, answer) for asked, answer in zip(questions, answers, strict=True)]
        return answers

    def _answer(self, problem: int, question: Expand | Score | Forget) -> Any:
        if isinstance(question, Forget):
            return None
        if isinstance(question, Score):
            self.cost += Cost(read=len(question.prefix))
            return self.value(question.prefix)
        if question.prefix and question.prefix[-1] in self.ends:
            raise ValueError(f"{question.prefix} has ended")
        self.cost += Cost(prefilled=len(question.prefix))
        return [self._sampled(problem, question, number) for number in question.numbers]

    def _sampled(self, problem: int, question: Expand, number: int) -> Sampled:
        """One continuation. Its log-probability is not needed here: 0."""
        tokens: list[int] = []
        end = End.STEP
        while len(tokens) < question.steps or not question.steps:
            prefix = (*question.prefix, *tokens)
            if len(prefix) == self.longest:
                end = End.CUT
                break
            table = self.policy(prefix)
            names, shares = list(table), list(table.values())
            if question.greedy:
                chosen = shares.index(max(shares))
            else:
                chosen = self.draw(shares, (problem, number, len(prefix)))
            tokens.append(names[chosen])
            if names[chosen] in self.ends:
                end = End.RESPONSE
                break
        if end is End.STEP and len(question.prefix) + len(tokens) == self.longest:
            end = End.CUT
        self.cost += Cost(asked=len(tokens), generated=len(tokens))
        return Sampled(tuple(tokens), (0.0,) * len(tokens), end)
