"""Tree search by PUCT [Silver 2017; Rosin 2011], over steps that the policy samples.

A simulation walks from the root to a node that was not rated yet, rates it, and backs its value up. In a node with N
visits, of which its own rating is one, it takes the child with the greatest

    Q + c(N) · P · √N / (1 + n),   c(N) = explore + log((N + base + 1) / base)

n being the child's visits, P its prior and Q the mean (or maximum) of what was backed up through it, 0 before its first
visit: the rule of MuZero [Schrittwieser 2020, eq. 2], whose visits are those of `mctx.muzero_policy`. The children are
`width` samples of the next step, equal ones merged. Samples come from the policy, so the prior that leaves its
expectation right is a child's share of them [Hubert 2021]; a softmax over the likelihoods of different children does
not, but is often used.

A response that has ended is rated once; further visits back its value up again. One that was cut has the value 0.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from stepjax.search.ask import End, Search
from stepjax.search.beam import Candidate
from stepjax.search.explorer import Explorer, Line
from stepjax.search.ties import Ties
from stepjax.search.tree import ROOT, Node, Tree

BASE = 19652


def _by_counts(children: Sequence[Node]) -> list[float]:
    total = sum(one.count for one in children)
    return [one.count / total for one in children]


def _by_likelihood(children: Sequence[Node]) -> list[float]:
    logprobs = np.array([one.logprob for one in children])
    shares = np.exp(logprobs - logprobs.max())
    return (shares / shares.sum()).tolist()


PRIORS: dict[str, Callable[[Sequence[Node]], list[float]]] = {"counts": _by_counts, "likelihood": _by_likelihood}
"""A child's share of the samples; or the softmax of the log-probabilities of the different children's tokens."""


@dataclasses.dataclass(frozen=True)
class Puct:
    """Options of the search.

    Attributes:
      sims: simulations. `width`: samples of the next step in a node.
      explore: c of the formula. `backup`: mean or max. `prior`: one of `PRIORS`.
      widen: a node with N visits has at least ⌈widen · √N⌉ samples; 0: `width` for ever.
      workers: simulations that walk at once; until they are backed up, each counts as a visit of value 0 for the others
        (a virtual loss), so that they part.
    """

    sims: int
    width: int
    explore: float = 1.25
    backup: str = "mean"
    prior: str = "counts"
    widen: float = 0.0
    workers: int = 1


def puct_search(explorer: Explorer, options: Puct, ties: Ties) -> Search[list[Candidate]]:
    """The different responses in the tree. Where no simulation came to the end of one, the most visited path is sampled
    to its end."""
    return (yield from _Search(explorer, options, ties).run())


class _Search:
    def __init__(self, explorer: Explorer, options: Puct, ties: Ties):
        self.explorer, self.options, self.ties = explorer, options, ties
        self.tree: Tree = explorer.tree
        self.tree[ROOT].visits = 1  # its own; what it is worth changes no choice
        self.tree[ROOT].number = self.tree.fresh(1)[0]
        self._walking: dict[int, int] = {}  # how many simulations that are not backed up yet went to a node

    def run(self) -> Search[list[Candidate]]:
        left = self.options.sims
        while left > 0:
            done = yield from self._together(min(self.options.workers, left))
            if not done:
                break
            left -= done
        found = self.tree.ended()
        if not found:
            last = self._most_visited()
            found = (yield from self._finished(last)) if self.tree[last].open else [last]
        yield from self.explorer.rated([node for node in found if self.tree[node].end is End.RESPONSE])
        self.explorer.forget([i for i in range(len(self.tree)) if self.tree[i].open])
        return [Candidate(node) for node in found]

    def _together(self, workers: int) -> Search[int]:
        """Simulations that walk at once; how many were backed up, fewer than `workers` where they met in one node, 0
        where the budget is spent."""
        walks = [ROOT] * workers
        arrived: list[int] = []
        while walks:
            waiting: list[int] = []
            for node in walks:
                at, ready = self._walk(node)
                (arrived if ready else waiting).append(at)
            if not waiting:
                break
            if not self.explorer.may_go_on:
                self._walking.clear()
                break
            yield from self._sampled(list(dict.fromkeys(waiting)))
            walks = waiting
        distinct = list(dict.fromkeys(arrived))
        values = yield from self.explorer.rated(distinct)
        self._walking.clear()
        for node, value in zip(distinct, values, strict=True):
            self.tree.back_up(node, value)
        return len(distinct)

    def _walk(self, node: int) -> tuple[int, bool]:
        """From a node to the first one that is to be rated or has ended (True), or that needs samples (False)."""
        tree = self.tree
        while True:
            one = tree[node]
            if not one.open or (node != ROOT and not one.visits):
                return node, True
            if self._lacking(one):
                return node, False
            node = self._best_child(node)
            self._walking[node] = self._walking.get(node, 0) + 1

    def _lacking(self, one: Node) -> int:
        """Samples that a node needs before a simulation goes on from it."""
        options = self.options
        wanted = max(options.width, math.ceil(options.widen * math.sqrt(one.visits) - 1e-9))
        return wanted - sum(self.tree[child].count for child in one.children)

    def _sampled(self, nodes: Sequence[int]) -> Search[None]:
        lines = []
        for node in nodes:
            one = self.tree[node]
            fresh = self._lacking(one) - (not one.children)
            # The first sample is the line itself that goes on; the others leave it.
            lines += [Line(node, one.number)] * (not one.children)
            lines += [Line(node, number) for number in self.tree.fresh(fresh)]
        yield from self.explorer.continued(lines)
        if not self.options.widen:
            self.explorer.forget(nodes)

    def _best_child(self, node: int) -> int:
        tree, options, one = self.tree, self.options, self.tree[node]
        children = one.children
        priors = PRIORS[options.prior]([tree[child] for child in children])
        visits = one.visits + sum(self._walking.get(child, 0) for child in children)
        weight = (options.explore + math.log((visits + BASE + 1) / BASE)) * math.sqrt(visits)
        scores = [
            self._q(child) + weight * prior / (1 + tree[child].visits + self._walking.get(child, 0))
            for child, prior in zip(children, priors, strict=True)
        ]
        highest = max(scores)
        equal = [child for child, score in zip(children, scores, strict=True) if score == highest]
        return equal[self.ties.choose(len(equal), 1)[0]]

    def _q(self, node: int) -> float:
        q, walking = self.tree.q(node, self.options.backup), self._walking.get(node, 0)
        if not walking or self.options.backup == "max":
            return q
        return self.tree[node].total / (self.tree[node].visits + walking)

    def _most_visited(self) -> int:
        node = ROOT
        while children := [child for child in self.tree[node].children if self.tree[child].visits]:
            most = max(self.tree[child].visits for child in children)
            equal = [child for child in children if self.tree[child].visits == most]
            node = equal[self.ties.choose(len(equal), 1)[0]]
        return node

    def _finished(self, node: int) -> Search[list[int]]:
        """Sampled to its end from a node; paid for beyond the budget, so that there is an answer."""
        number = self.tree.fresh(1)[0]
        (line,) = yield from self.explorer.continued([Line(node, number)], steps=0)
        return [line.node]
