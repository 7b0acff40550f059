"""The tree of a problem's prefixes: what was sampled behind each, how it was rated, how often it was visited."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from stepjax.errors import UserError
from stepjax.search.ask import NUMBERS, End, Sampled

ROOT = 0
BACKUPS = ("mean", "max")


@dataclasses.dataclass
class Node:
    """A prefix: that of its parent and `tokens` behind it.

    Attributes:
      parent: its number in the tree; −1: this is the root, the empty response.
      tokens: ids, the end id included; `logprob`: of all of them together.
      end: why they stop. STEP: the response may go on from here.
      number: of the line that may go on from here as it is (`Expand.numbers`).
      others: numbers of the further lines that had the same tokens behind the parent.
      children: numbers of nodes, in the order in which they were first sampled.
      value: by the scorer, in [0, 1]; None: not rated yet.
      visits: its own rating and those of nodes below it that were backed up; `total`, `best`: their sum and maximum.
    """

    parent: int = -1
    tokens: tuple[int, ...] = ()
    logprob: float = 0.0
    end: End = End.STEP
    number: int = 0
    others: list[int] = dataclasses.field(default_factory=list)
    children: list[int] = dataclasses.field(default_factory=list)
    value: float | None = None
    visits: int = 0
    total: float = 0.0
    best: float = 0.0

    @property
    def open(self) -> bool:
        return self.end is End.STEP

    @property
    def count(self) -> int:
        """How often these tokens were sampled behind the parent."""
        return 1 + len(self.others)


class Tree:
    """Nodes, of which number 0 is the root; equal continuations of a prefix are one node."""

    def __init__(self) -> None:
        self.nodes = [Node()]
        self._numbers = 0

    def __getitem__(self, node: int) -> Node:
        return self.nodes[node]

    def __len__(self) -> int:
        return len(self.nodes)

    def fresh(self, count: int) -> tuple[int, ...]:
        """Numbers of lines that no line of this problem had before. UserError where it had too many."""
        if self._numbers + count > NUMBERS:
            raise UserError(f"config.search: a problem takes more than {NUMBERS} lines; lower n, width or sims")
        self._numbers += count
        return tuple(range(self._numbers - count, self._numbers))

    def path(self, node: int) -> list[int]:
        """From the root, which is part of it, to the node."""
        found = [node]
        while self.nodes[found[-1]].parent >= 0:
            found.append(self.nodes[found[-1]].parent)
        return found[::-1]

    def prefix(self, node: int) -> tuple[int, ...]:
        return tuple(token for i in self.path(node) for token in self.nodes[i].tokens)

    def add(self, parent: int, sampled: Sampled, number: int) -> int:
        """The child with these tokens; a new one where there is none."""
        for child in self.nodes[parent].children:
            if self.nodes[child].tokens == sampled.tokens:
                self.nodes[child].others.append(number)
                return child
        self.nodes.append(Node(parent, sampled.tokens, sampled.step_logprob, sampled.end, number))
        self.nodes[parent].children.append(len(self.nodes) - 1)
        return len(self.nodes) - 1

    def back_up(self, node: int, value: float) -> None:
        """Counts a visit of the node and of all before it."""
        for i in self.path(node):
            one = self.nodes[i]
            one.visits, one.total, one.best = one.visits + 1, one.total + value, max(one.best, value)

    def q(self, node: int, backup: str = "mean") -> float:
        """The value of a node by what was backed up: its mean, or its maximum; 0 before the first visit."""
        one = self.nodes[node]
        if backup == "max":
            return one.best
        return one.total / one.visits if one.visits else 0.0

    def ended(self) -> list[int]:
        """The nodes with an end of a response, in the order in which they were found."""
        return [i for i, one in enumerate(self.nodes) if one.end is End.RESPONSE]

    def to_json(self, texts: Sequence[str], backup: str = "mean") -> list[dict[str, Any]]:
        """A row a node; `texts`: of each node's own tokens. Node 0 is the root; a parent stands before its children."""
        return [
            {
                "parent": one.parent,
                "text": text,
                "tokens": list(one.tokens),
                "logprob": round(one.logprob, 6),
                "end": one.end.value,
                "count": one.count,
                "lines": [one.number, *one.others],
                "value": None if one.value is None else round(one.value, 6),
                "visits": one.visits,
                "q": round(self.q(i, backup), 6) if one.visits else None,
            }
            for i, (one, text) in enumerate(zip(self.nodes, texts, strict=True))
        ]

    @classmethod
    def from_json(cls, rows: Sequence[dict[str, Any]]) -> "Tree":
        """The tree of `to_json`'s rows, for those who read a file; ValueError where they are not of one tree.

        `total` and `best` are both what the row's `q` says, which is the one that was used.
        """
        tree = cls()
        tree.nodes = []
        for i, row in enumerate(rows):
            try:
                parent, visits, q = int(row["parent"]), int(row["visits"]), float(row["q"] or 0.0)
                number, *others = row.get("lines") or [0] * row["count"]
                one = Node(parent, tuple(row["tokens"]), row["logprob"], End(row["end"]), number, others)
                one.value, one.visits, one.total, one.best = row["value"], visits, q * visits, q
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"tree: node {i} is not one ({error})") from None
            if not -1 <= parent < i or (parent < 0) != (i == 0):
                raise ValueError(f"tree: node {i} has the parent {parent}")
            tree.nodes.append(one)
            if parent >= 0:
                tree.nodes[parent].children.append(i)
        return tree
