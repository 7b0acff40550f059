"""First errors by binary search over a tree of prefixes whose completions are used again [Luo 2024, OmegaPRM].

The tree holds the prefixes of one problem's solutions whose values were estimated. A candidate is a wrong rollout from
one of them; the next to be searched has the highest Q + U. Its first error is found by bisection: where no completion
from the middle is right, the error lies before it, else after it. Completions sampled on the way are new rollouts.
"""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from stepjax.data.schema import NO_ERROR, LabelledSolution
from stepjax.judges.cost import Cost
from stepjax.labels.monte_carlo import advances, labelled
from stepjax.labels.solution import Completion, Estimate, Prefix, Request, Solution


@dataclass(frozen=True)
class TreeSearch:
    """Constants of the search; the defaults are the paper's.

    Attributes:
      count: k, completions of a prefix.
      searches: binary searches per problem after those of the given solutions.
      alpha, beta, length: Q = α^(1 − MC) · β^(len / L), len in tokens.
      explore: c_puct; U = c_puct · √ΣN / (1 + N).
    """

    count: int = 8
    searches: int = 0
    alpha: float = 0.5
    beta: float = 0.9
    length: int = 500
    explore: float = 0.125

    def exploit(self, value: float, tokens: int) -> float:
        """Q of a rollout of `tokens` tokens from a prefix of this value."""
        return self.alpha ** (1.0 - value) * self.beta ** (tokens / self.length)

    def spread(self, visits: int, all_visits: int) -> float:
        """U of a prefix that was chosen `visits` times, of `all_visits` in the tree."""
        return self.explore * math.sqrt(all_visits) / (1 + visits)


@dataclass
class Node:
    """A prefix in the tree.

    Attributes:
      estimate: of its value.
      visits: N, how often one of its rollouts was searched.
      steps: how many whole steps the prefix has.
    """

    steps: int
    estimate: Estimate = field(default_factory=Estimate)
    visits: int = 0


@dataclass(frozen=True)
class Search:
    """One search that has ended: where the first error is, and the estimates used on the way, by number of steps."""

    solution: Solution
    first_error: int
    seen: dict[int, Estimate]
    cost: Cost


Searching = Generator[list[Request], list[list[Completion]], Any]


class Tree:
    """The tree of one problem."""

    def __init__(self, solutions: Sequence[Solution], rule: TreeSearch, as_solution: Any):
        """`as_solution(prefix, completion, name)` reads a completion as a Solution."""
        self.rule = rule
        self.nodes: dict[tuple[int, ...], Node] = {}
        self.candidates: list[tuple[tuple[int, ...], Solution]] = []
        self._as_solution = as_solution
        self._made = 0
        self._base = solutions[0]

    def value(self, solution: Solution, steps: int) -> Searching:
        """`(Estimate, Cost)` of the solution's first steps; an estimate that is in the tree costs nothing."""
        prefix = solution.prefix(steps)
        node = self.nodes.get(prefix.tokens)
        if node is not None:
            return node.estimate, Cost()
        # The last step of a truncated solution continues in a completion: it is not known yet.
        cut_off = steps == solution.steps and not solution.finished
        node = self.nodes[prefix.tokens] = Node(steps - cut_off)
        (completions,) = yield [Request(prefix, self.rule.count)]
        node.estimate = node.estimate.add(completions)
        if 0 < node.estimate.value < 1:
            self._keep(prefix, completions)
        return node.estimate, node.estimate.cost

    def _keep(self, prefix: Prefix, completions: Sequence[Completion]) -> None:
        if not self.rule.searches:
            return
        for completion in completions:
            if not completion.correct and completion.finished:
                name = f"{self._base.record.id}/tree/{self._made}"
                self._made += 1
                self.candidates.append((prefix.tokens, self._as_solution(prefix, completion, name)))

    def best(self) -> tuple[tuple[int, ...], Solution] | None:
        """Takes the candidate with the highest Q + U out of the pool; None where it is empty."""
        if not self.candidates:
            return None
        visits = sum(node.visits for node in self.nodes.values())

        def score(candidate: tuple[tuple[int, ...], Solution]) -> float:
            node = self.nodes[candidate[0]]
            tokens = len(candidate[1].tokens) - len(candidate[0])
            return self.rule.exploit(node.estimate.value, tokens) + self.rule.spread(node.visits, visits)

        at = max(range(len(self.candidates)), key=lambda i: (score(self.candidates[i]), -i))
        chosen = self.candidates.pop(at)
        self.nodes[chosen[0]].visits += 1
        return chosen

    def search(self, solution: Solution, known: int = 0) -> Searching:
        """The first error of a solution, a Search. `known`: steps after which a right answer can still be reached.

        Whole solutions with a right answer have none: each of their prefixes has a right completion, the rest of it.
        """
        seen: dict[int, Estimate] = {}
        cost, last = Cost(), solution.steps
        if solution.finished:
            seen[last] = Estimate(outcome=solution.correct)
        elif last:
            seen[last], cost = yield from self.value(solution, last)
        if not last or seen[last].reachable:
            return Search(solution, NO_ERROR, seen, cost)
        low, high = known, last
        while high - low > 1:
            middle = (low + high) // 2
            seen[middle], paid = yield from self.value(solution, middle)
            cost += paid
            low, high = (middle, high) if seen[middle].reachable else (low, middle)
        return Search(solution, high - 1, seen, cost)


def omegaprm(solutions: Sequence[Solution], rule: TreeSearch, as_solution: Any, kind: str = "hard") -> Searching:
    """Labels of one problem's solutions, and of those that the tree search found: a list of LabelledSolution.

    Hard labels: 1 before the first error, −1 from there on, by the search. Soft ones: the estimated value of
    each prefix that the search visited; the others have none.
    """
    tree = Tree(solutions, rule, as_solution)
    found: list[LabelledSolution] = []
    root = Cost()
    if rule.searches or kind == "advances":
        _, root = yield from tree.value(solutions[0], 0)
    for solution in solutions:
        search: Search = yield from tree.search(solution)
        found.append(_record(tree, search, kind, root))
        root = Cost()
    for _ in range(rule.searches):
        chosen = tree.best()
        if chosen is None:
            break
        tokens, solution = chosen
        search = yield from tree.search(solution, tree.nodes[tokens].steps)
        seen = {tree.nodes[tokens].steps: tree.nodes[tokens].estimate, **search.seen}
        found.append(_record(tree, replace(search, seen=seen), kind, root))
    return found


def _record(tree: Tree, search: Search, kind: str, root: Cost) -> LabelledSolution:
    solution, error = search.solution, search.first_error
    after = [search.seen.get(k + 1) for k in range(solution.steps)]
    values = tuple(None if e is None else e.value for e in after)
    if kind == "advances":
        # Only between neighbours that were both visited is the change known.
        start = tree.nodes[()].estimate.value
        pairs = zip((start, *values), values, strict=False)
        ratings = tuple(None if a is None or b is None else advances([a, b])[0] for a, b in pairs)
        labels: dict[str, Any] = {"kind": "step", "ratings": ratings}
    elif kind == "soft":
        labels = {"kind": "value", "values": values, "first_error": error}
    else:
        ratings = tuple(1 if error == NO_ERROR or k < error else -1 for k in range(solution.steps))
        labels = {"kind": "value", "ratings": ratings, "first_error": error}
    counts = {str(k): [e.correct, e.total] for k, e in sorted(search.seen.items()) if e.outcome is None}
    return labelled(solution, labels, after, search.cost + root, {"kind": kind, "right_of": counts})
