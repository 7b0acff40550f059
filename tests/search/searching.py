"""Searches in a world of tables: run to their end, or over every outcome that chance can have."""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from search.world import TableWorld

from stepjax.drive import drive
from stepjax.search.ask import Expand, Search, of_problem


def run(search: Search[Any], world: TableWorld, problem: int = 0) -> Any:
    """What a search of one problem finds."""
    (found,) = drive([of_problem(problem, search)], world, enough=1)
    return found


class FirstOfTies:
    """Always the first ones, for comparisons with other software."""

    def choose(self, count: int, taken: int) -> list[int]:
        return list(range(min(count, taken)))


class Chance:
    """All outcomes of a random experiment: `draw` and `choose` take the next branch of a tree that is walked whole.

    Attributes:
      probability: of the branch so far.
    """

    def __init__(self) -> None:
        self._branch: list[list[int]] = []  # of each choice: the outcome taken, and how many there are
        self._at = 0
        self.probability = 1.0

    def _next(self, outcomes: int) -> int:
        if self._at == len(self._branch):
            self._branch.append([0, outcomes])
        taken, count = self._branch[self._at]
        assert count == outcomes
        self._at += 1
        return taken

    def draw(self, probabilities: Sequence[float], key: tuple[int, ...]) -> int:
        possible = [i for i, p in enumerate(probabilities) if p > 0]
        chosen = possible[self._next(len(possible))]
        self.probability *= probabilities[chosen]
        return chosen

    def choose(self, count: int, taken: int) -> list[int]:
        sets = list(itertools.combinations(range(count), min(taken, count)))
        self.probability /= len(sets)
        return list(sets[self._next(len(sets))])

    def branches(self) -> Iterator[None]:
        """Once for each combination of outcomes; read `probability` at the end of each round."""
        while True:
            self._at, self.probability = 0, 1.0
            yield
            while self._branch and self._branch[-1][0] + 1 == self._branch[-1][1]:
                self._branch.pop()
            if not self._branch:
                return
            self._branch[-1][0] += 1


def distribution(experiment: Callable[[Chance], dict[Any, float]]) -> dict[Any, float]:
    """The expectation of what an experiment counts."""
    chance, found, total = Chance(), defaultdict[Any, float](float), 0.0
    for _ in chance.branches():
        counted = experiment(chance)
        total += chance.probability
        for name, count in counted.items():
            found[name] += chance.probability * count
    assert abs(total - 1) < 1e-9
    return dict(found)


class Counted(TableWorld):
    """Samples come in the exact proportions of the policy: outcome i of a node as often as its share of `width`."""

    def _answer(self, problem, question):
        if isinstance(question, Expand) and question.steps == 1:
            table = self.policy(question.prefix)
            each = [name for name, p in table.items() for _ in range(round(p * len(question.numbers)))]
            assert len(each) == len(question.numbers)
            outcomes = iter(each)
            self.draw = lambda shares, key: list(table).index(next(outcomes))
        else:
            self.draw = lambda shares, key: 0
        return super()._answer(problem, question)
