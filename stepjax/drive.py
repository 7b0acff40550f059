"""Many labellings at once: each yields questions, and all of a round are answered in one batch.

Each is a generator that yields a list of questions, is sent the list of their answers, and returns its result. Here the
questions of many are gathered, so that the rollout program always has full batches, however few prefixes a single
solution has open.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import TypeVar

Q = TypeVar("Q")
A = TypeVar("A")
R = TypeVar("R")
Labelling = Generator[list[Q], list[A], R]


def drive(
    labellings: Iterable[Labelling[Q, A, R]],
    answer: Callable[[Sequence[Q]], list[A]],
    *,
    enough: int,
    weight: Callable[[Q], int] = lambda question: 1,
) -> Iterator[R]:
    """Results in the order in which the labellings end.

    Args:
      labellings: started one after the other, only as many at a time as full rounds need.
      answer: answers all questions of a round, in order.
      enough: the total weight of a round's questions up to which further labellings are started.
    """
    waiting = iter(labellings)
    open_ones: list[tuple[Labelling[Q, A, R], list[Q]]] = []
    more = True
    while open_ones or more:
        while more and sum(weight(q) for _, questions in open_ones for q in questions) < enough:
            labelling = next(waiting, None)
            if labelling is None:
                more = False
                break
            try:
                open_ones.append((labelling, next(labelling)))
            except StopIteration as end:
                yield end.value
        answers = iter(answer([q for _, questions in open_ones for q in questions]) if open_ones else [])
        still: list[tuple[Labelling[Q, A, R], list[Q]]] = []
        for labelling, questions in open_ones:
            try:
                still.append((labelling, labelling.send([next(answers) for _ in questions])))
            except StopIteration as end:
                yield end.value
        open_ones = still
