"""Whole responses that are known already, as answers to a search: best-of-N of fewer, or by another scorer.

A response's tokens come from the seed, the problem and its number alone, so that the responses of a smaller best-of-N
are the first ones of a larger.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from stepjax.search.ask import Asked, Cost, Expand, Forget, Sampled
from stepjax.search.tree import Tree

Known = Mapping[int, Sampled]
"""Responses by their numbers."""


def whole_responses(tree: Tree) -> dict[int, Sampled]:
    """The responses of a tree of best-of-N, whose nodes stand right behind the root."""
    found = dict[int, Sampled]()
    for child in tree[0].children:
        one = tree[child]
        sampled = Sampled(one.tokens, (one.logprob,), one.end)
        found |= dict.fromkeys((one.number, *one.others), sampled)
    return found


class Replay:
    """Answers `Expand` of whole responses, each of which is known.

    Attributes:
      costs: of each problem, what the responses took when they were sampled: none twice, each prompt read once.
      open: nothing waits.
    """

    def __init__(self, prompts: Sequence[Sequence[int]], known: Sequence[Known]):
        """`prompts`, `known`: of each problem, by `Asked.problem`."""
        self.prompts, self.known = prompts, known
        self.costs = [Cost() for _ in prompts]
        self.open = 0
        self._ready: dict[int, Any] = {}
        self._count = 0

    def __call__(self, asked: Sequence[Asked]) -> list[Any]:
        """A list of `Sampled` for each `Expand`, None for each `Forget`."""
        return [self._answer(one) for one in asked]

    def ask(self, asked: Sequence[Asked]) -> range:
        """Takes questions, which `poll` answers by these numbers."""
        first, self._count = self._count, self._count + len(asked)
        self._ready |= dict(enumerate(self(asked), first))
        return range(first, self._count)

    def poll(self) -> dict[int, Any]:
        """The answers to all questions so far."""
        found, self._ready = self._ready, {}
        return found

    def _answer(self, asked: Asked) -> list[Sampled] | None:
        problem, question = asked.problem, asked.question
        if isinstance(question, Forget):
            return None
        if not isinstance(question, Expand) or question.prefix or question.steps:
            raise ValueError("only whole responses are known")
        found = [self.known[problem][number] for number in question.numbers]
        tokens = sum(len(one.tokens) for one in found)
        read = 0 if self.costs[problem].asked else len(self.prompts[problem])
        self.costs[problem] += Cost(asked=tokens, generated=tokens, prefilled=read)
        return found
