"""What a policy learns of a search: rows of tokens, each token with a weight.

The loss of a row is −Σ weight · log π(token | what stands before it).
"""

import dataclasses
from collections.abc import Callable, Collection, Hashable, Sequence

import numpy as np

from stepjax.config import ImproveOptions
from stepjax.data.packing import Example
from stepjax.search.targets import best_right, visit_shares
from stepjax.search.tree import ROOT, Tree

Same = Callable[[Sequence[int]], Hashable]
"""From a response's tokens what is equal for responses that count as one."""


@dataclasses.dataclass(frozen=True)
class Target:
    """A response, or the beginning of one, and the weight of each of its tokens; 0: it is read and not learned."""

    tokens: tuple[int, ...]
    weights: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Targets:
    """A way to learn of a tree.

    Attributes:
      make: from the tree, the nodes of right responses, the options, `search.backup` and what makes responses equal.
      visits: whether the search must count visits.
    """

    make: Callable[[Tree, Collection[int], ImproveOptions, str, Same], list[Target]]
    visits: bool = False


def right_paths(tree: Tree, right: Collection[int], options: ImproveOptions, backup: str, same: Same) -> list[Target]:
    """The right responses whose steps are worth most, at most `per_problem` different ones; every token weighs 1."""
    found: dict[Hashable, Target] = {}
    for node in best_right(tree, right, most=len(tree), backup=backup):
        tokens = tree.prefix(node)
        found.setdefault(same(tokens), Target(tokens, (1.0,) * len(tokens)))
    return list(found.values())[: options.per_problem]


def visited_paths(tree: Tree, right: Collection[int], options: ImproveOptions, backup: str, same: Same) -> list[Target]:
    """−Σ shares · log π(step | prefix) over all prefixes with `least_visits` visits behind them [Anthony 2017].

    One row for each path to a last visited node. A step has its share of the visits as weight in the first row that it
    is part of, and 0 in the others, where it is only read: so the rows have the loss of all prefixes together, and none
    is read more often than there are ends behind it.
    """
    shares = {
        step: share
        for target in visit_shares(tree, options.least_visits)
        for step, share in zip(target.nodes, target.shares, strict=True)
    }
    found, used = [], {ROOT}
    for node in range(len(tree)):
        if not tree[node].visits or any(tree[child].visits for child in tree[node].children):
            continue
        tokens: list[int] = []
        weights: list[float] = []
        for step in tree.path(node)[1:]:
            tokens += tree[step].tokens
            share = 0.0 if step in used else shares.get(step, 0.0)
            weights += [share] * len(tree[step].tokens)
            used.add(step)
        learned = max((i + 1 for i, weight in enumerate(weights) if weight), default=0)
        if learned:
            found.append(Target(tuple(tokens[:learned]), tuple(weights[:learned])))
    return found


TARGETS = {"best_right": Targets(right_paths), "visits": Targets(visited_paths, visits=True)}
"""By `improve.targets`."""


def example(prompt: Sequence[int], target: Target) -> Example:
    """The row as an example: a token's target and weight stand where it is predicted, at the token before it."""
    tokens = np.array([*prompt, *target.tokens], np.int32)
    weights = np.zeros(len(tokens), np.float32)
    weights[len(prompt) - 1 : -1] = target.weights
    targets = np.where(weights > 0, np.append(tokens[1:], -1), -1).astype(np.int32)
    return Example(tokens, targets, weights)
