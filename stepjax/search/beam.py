"""Search in rounds: best-of-N, step beams and DVTS are one loop with other numbers; and revisions, one after another.

    method                   groups   width   keep
    best of n                n        1       1
    step beam, m samples     1        m       n / m
    DVTS [Beeching 2024]     n / m    m       1

n slots are divided into groups. In a round every slot's line goes on for a step; then each group keeps its `keep` best
lines, and each of these owns `width` slots: one goes on in its own slot, the others are copies with fresh numbers. A
response that has ended keeps its share: it fills its own slots without further tokens, and has as many votes. So
with a constant scorer what a slot holds in the end is distributed as the policy's responses are; methods that refill
the slots of ended responses, or leave ended beams alone, favour short or long ones.
"""

import dataclasses
from collections import Counter

from stepjax.search.ask import End, Search
from stepjax.search.explorer import Explorer, Line
from stepjax.search.ties import Ties, best
from stepjax.search.tree import ROOT


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A response that may be chosen.

    Attributes:
      node: in the tree. It may be cut or unfinished, and then has no vote.
      share: how many slots (or trials) it fills.
    """

    node: int
    share: int = 1


@dataclasses.dataclass(frozen=True)
class Beams:
    """`groups` groups of `keep` lines with `width` samples each."""

    groups: int
    width: int
    keep: int

    @property
    def slots(self) -> int:
        return self.width * self.keep


def beam_search(explorer: Explorer, beams: Beams, ties: Ties) -> Search[list[Candidate]]:
    """The responses in all slots once none goes on, or once the budget is spent."""
    tree = explorer.tree
    lines = explorer.first(beams.groups * beams.slots)
    groups = [lines[first : first + beams.slots] for first in range(0, len(lines), beams.slots)]
    while explorer.may_go_on and any(tree[line.node].open for group in groups for line in group):
        open_ones = [line for group in groups for line in group if tree[line.node].open]
        further = iter((yield from explorer.continued(open_ones, last=True)))
        groups = [[next(further) if tree[line.node].open else line for line in group] for group in groups]
        if beams.width > 1:
            yield from explorer.rated([line.node for group in groups for line in group])
            groups = [_selected(explorer, group, beams, ties) for group in groups]
        live = {line.node for group in groups for line in group if tree[line.node].open}
        after = {node for line in open_ones for node in tree[line.node].children if tree[node].open}
        explorer.forget(sorted(after - live))
    return (yield from _candidates(explorer, [line.node for group in groups for line in group]))


def _selected(explorer: Explorer, group: list[Line], beams: Beams, ties: Ties) -> list[Line]:
    """The slots of a group for the next round; those of one in which nothing goes on stay as they are."""
    tree = explorer.tree
    if not any(tree[line.node].open for line in group):
        return group
    kept = best([tree[line.node].value or 0.0 for line in group], beams.keep, ties)
    found = []
    for line in (group[i] for i in kept):
        others = beams.width - 1
        numbers = explorer.tree.fresh(others) if tree[line.node].open else [line.number] * others
        found += [line, *(Line(line.node, number) for number in numbers)]
    return found


def best_of(explorer: Explorer, count: int) -> Search[list[Candidate]]:
    """`count` whole responses, fewer where the budget ends before. Their tokens are those of `Beams(count, 1, 1)`."""
    found: list[int] = []
    while number := explorer.affordable(count - len(found)):
        lines = yield from explorer.continued(explorer.first(number), steps=0)
        found += [line.node for line in lines]
    return (yield from _candidates(explorer, found))


def revisions(explorer: Explorer, count: int) -> Search[list[Candidate]]:
    """`count` responses, each a revision of the one before: it keeps the steps before the one rated lowest (the first
    of equals), and draws the others anew. With a constant scorer all begin anew: best of n, one after the other."""
    tree, found, line = explorer.tree, list[int](), explorer.first(1)[0]
    for trial in range(count):
        while explorer.may_go_on and tree[line.node].open:
            (line,) = yield from explorer.continued([line])
        if tree[line.node].open:
            break
        found.append(line.node)
        if trial + 1 < count and explorer.may_go_on:
            steps = [node for node in tree.path(line.node)[1:] if tree[node].end is not End.CUT]
            values = yield from explorer.rated(steps)
            begin = tree[steps[values.index(min(values))]].parent if steps else ROOT
            line = Line(begin, tree.fresh(1)[0])
    explorer.forget([node for node in range(ROOT, len(tree)) if tree[node].open])
    return (yield from _candidates(explorer, found or [line.node]))


def _candidates(explorer: Explorer, nodes: list[int]) -> Search[list[Candidate]]:
    """Each different response with its share, rated where it has ended."""
    ended = [node for node in nodes if explorer.tree[node].end is End.RESPONSE]
    yield from explorer.rated(ended)
    return [Candidate(node, share) for node, share in Counter(nodes).items()]
