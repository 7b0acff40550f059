"""What all methods share: continuing lines, rating what was sampled, and the tokens that were spent on it."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from stepjax.search.ask import End, Expand, Forget, Question, Score, Search
from stepjax.search.tree import ROOT, Tree


@dataclasses.dataclass(frozen=True)
class Line:
    """A response that is being written: a node of the tree, and the number under which it goes on from there."""

    node: int
    number: int


class Explorer:
    """A problem's tree as a search grows it.

    Attributes:
      lookahead: greedy steps that are taken from an open prefix before it is rated, and then thrown away; 0: none.
      budget: tokens after which no further question is asked; 0: there is no limit.
      longest: tokens of the longest response.
      spent: tokens that were asked for so far, lookaheads included.
    """

    def __init__(self, *, lookahead: int = 0, budget: int = 0, longest: int = 0):
        self.tree = Tree()
        self.lookahead, self.budget, self.longest = lookahead, budget, longest
        self.spent = 0
        self._forgotten: list[tuple[int, ...]] = []

    @property
    def may_go_on(self) -> bool:
        return not self.budget or self.spent < self.budget

    def affordable(self, count: int) -> int:
        """How many of `count` whole responses may be asked for at once: as many as surely fit into the budget."""
        return min(count, max(self.budget - self.spent, 0) // self.longest) if self.budget else count

    def continued(self, lines: Sequence[Line], steps: int = 1, *, last: bool = False) -> Search[list[Line]]:
        """Each line one node further, in order; lines of one node are one question.

        `last`: nothing else will go on behind their nodes, which are held only until these lines have begun."""
        numbers: dict[int, list[int]] = {}
        for line in lines:
            numbers.setdefault(line.node, []).append(line.number)
        asked = [Expand(self.tree.prefix(node), tuple(of_node), steps) for node, of_node in numbers.items()]
        answers = yield from self._ask([*asked, *([Forget(tuple(one.prefix for one in asked))] if last else [])])
        found = {}
        for node, sampled in zip(numbers, answers[: len(asked)], strict=True):
            for number, one in zip(numbers[node], sampled, strict=True):
                self.spent += len(one.tokens)
                found[node, number] = Line(self.tree.add(node, one, number), number)
        return [found[line.node, line.number] for line in lines]

    def rated(self, nodes: Sequence[int]) -> Search[list[float]]:
        """The value of each node, asked for once; 0 for one that was cut, which the scorer does not see."""
        tree = self.tree
        new = [node for node in dict.fromkeys(nodes) if tree[node].value is None]
        for node in new:
            if tree[node].end is End.CUT:
                tree[node].value = 0.0
        new = [node for node in new if tree[node].end is not End.CUT]
        texts = {node: tree.prefix(node) for node in new}
        ahead = [node for node in new if tree[node].open and self.lookahead and self.may_go_on]
        if ahead:
            steps = self.lookahead
            answers = yield from self._ask([Expand(texts[n], (tree[n].number,), steps, greedy=True) for n in ahead])
            for node, (one,) in zip(ahead, answers, strict=True):
                self.spent += len(one.tokens)
                if one.end is not End.CUT:  # else its last step is not complete
                    texts[node] += one.tokens
        if new:
            values = yield from self._ask([Score(texts[node]) for node in new])
            for node, value in zip(new, values, strict=True):
                tree[node].value = value
        return [tree[node].value or 0.0 for node in nodes]

    def forget(self, nodes: Sequence[int]) -> None:
        """These nodes are not asked about again."""
        self._forgotten += [self.tree.prefix(node) for node in dict.fromkeys(nodes)]

    def closed(self) -> Search[None]:
        """Tells what is forgotten, at a search's end."""
        if self._forgotten:
            yield [Forget(tuple(self._forgotten))]
        self._forgotten = []

    def first(self, count: int) -> list[Line]:
        """Lines that begin a response."""
        return [Line(ROOT, number) for number in self.tree.fresh(count)]

    def _ask(self, questions: Sequence[Question]) -> Search[list[Any]]:
        if not questions:
            return []
        before: list[Question] = [Forget(tuple(self._forgotten))] if self._forgotten else []
        self._forgotten = []
        answers: list[Any] = yield [*before, *questions]
        return answers[len(before) :]
