"""What a finished tree teaches: shares of visits, right responses of the highest values, values of steps."""

import dataclasses
from collections.abc import Callable, Collection, Iterator, Sequence

from stepjax.data.schema import LabelledSolution
from stepjax.search.records import step_values
from stepjax.search.tree import Tree


@dataclasses.dataclass(frozen=True)
class StepTarget:
    """What a policy learns in a prefix: the loss −Σ shares · log π(tokens | prefix).

    Attributes:
      prefix: ids of the response so far.
      steps: ids of the different next steps.
      shares: of the visits, one a step; they sum to 1.
      visits: of the steps together.
      nodes: of the steps.
    """

    prefix: tuple[int, ...]
    steps: tuple[tuple[int, ...], ...]
    shares: tuple[float, ...]
    visits: int
    nodes: tuple[int, ...]


def visit_shares(tree: Tree, least: int = 1) -> Iterator[StepTarget]:
    """A target for every prefix behind which there were at least `least` visits [Silver 2017]."""
    for i, node in enumerate(tree.nodes):
        visits = [tree[child].visits for child in node.children]
        if node.children and sum(visits) >= max(least, 1):
            kept = [(tree[c].tokens, n / sum(visits), c) for c, n in zip(node.children, visits, strict=True) if n]
            steps, shares, nodes = zip(*kept, strict=True)
            yield StepTarget(tree.prefix(i), steps, shares, sum(visits), nodes)


def best_right(tree: Tree, right: Collection[int], most: int = 2, backup: str = "mean") -> list[int]:
    """The ends of at most `most` different right responses: those of the highest mean value along their paths, the ones
    found first where these are equal [Guan 2025]. `right`: the nodes whose responses are."""

    def worth(node: int) -> float:
        path = tree.path(node)[1:]
        known = [tree.q(i, backup) if tree[i].visits else tree[i].value or 0.0 for i in path]
        return sum(known) / len(known)

    return sorted((node for node in tree.ended() if node in right), key=lambda node: -worth(node))[:most]


def value_records(
    like: LabelledSolution,
    tree: Tree,
    right: Collection[int],
    steps_of: Callable[[Sequence[int]], Sequence[str]],
    backup: str = "mean",
) -> list[LabelledSolution]:
    """A record of values for each response in the tree that has ended, for the training of a value PRM.

    A step's value is what was backed up to its end; None where no simulation came there. The last one's is the outcome.

    Args:
      like: the problem's record: its problem, answer, source, group and prompt tokens are taken over.
      right: nodes of right responses.
      steps_of: the texts of a response's steps from its tokens.
    """
    found = []
    prompt = like.extra.get("prompt_tokens")
    for number, node in enumerate(tree.ended()):
        tokens = tree.prefix(node)
        values = step_values(tree, node, lambda tokens: len(steps_of(tokens)), backup)
        if not values:
            continue
        values[-1] = float(node in right)
        found.append(
            LabelledSolution(
                problem=like.problem,
                steps=tuple(text.strip() for text in steps_of(tokens)),
                kind="value",
                values=tuple(values),
                answer=like.answer,
                correct=node in right,
                source=like.source,
                labeller="search",
                id=f"{like.id}/{number}",
                group=like.group,
                extra={"tokens": list(tokens)} | ({} if prompt is None else {"prompt_tokens": prompt}),
            )
        )
    return found
