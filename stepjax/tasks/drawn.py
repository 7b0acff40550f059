"""Problems that are made when they are asked for, and how small worlds draw theirs in splits that never meet."""

import operator
import random
import zlib
from collections.abc import Callable, Sequence
from typing import TypeVar, overload

from stepjax.errors import UserError
from stepjax.tasks.base import Problem

T = TypeVar("T")
Uniform = Callable[[], float]  # draws from [0, 1)

SPLITS = ("test", "valid", "train")
_SHARE = 16  # one in this many problems belongs to the test split, one to the valid split, the others to train
_MOST_DRAWS = 10_000


class ProblemsOnAccess(Sequence[Problem]):
    """`count` problems by random access; `make(i)` gives the same problem for the same index."""

    def __init__(self, count: int, make: Callable[[int], Problem]):
        self._count, self._make = count, make

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Problem: ...
    @overload
    def __getitem__(self, index: slice) -> list[Problem]: ...
    def __getitem__(self, index: int | slice) -> Problem | list[Problem]:
        if isinstance(index, slice):
            return [self._make(i) for i in range(self._count)[index]]
        return self._make(range(self._count)[operator.index(index)])


def drawn_problems(task: str, config: object, split: str, make: Callable[[int], Problem]) -> ProblemsOnAccess:
    """Those of a split, as many as the config's `train_problems`, `valid_problems` and `test_problems`.

    Raises:
      UserError: for another split.
    """
    if split not in SPLITS:
        raise UserError(f"{task}: no split {split!r}; there are train, valid and test")
    return ProblemsOnAccess(getattr(config, f"{split}_problems"), make)


def draws_of(seed: int, split: str, index: int) -> Uniform:
    """Random numbers of a problem of its own."""
    # Of `random`, only seeding by an int and random() are promised to stay the same over Python versions.
    return random.Random((seed << 41) | (SPLITS.index(split) << 39) | index).random


def draw_for(split: str, draw: Callable[[], T], text: Callable[[T], str]) -> T | None:
    """What `draw` gives, again and again until it belongs to the split; None where nothing does.

    `text`: of what makes a problem the same as another one, by which it belongs to one split.
    """
    for _ in range(_MOST_DRAWS):
        found = draw()
        if min(zlib.crc32(text(found).encode()) % _SHARE, 2) == SPLITS.index(split):
            return found
    return None
