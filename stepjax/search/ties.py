"""Random choices among equals: by the seed's key tree, so that the same search takes the same ones anywhere."""

from collections.abc import Sequence
from typing import Protocol

import jax
import numpy as np


class Ties(Protocol):
    """Where a search finds equals and may take only some of them."""

    def choose(self, count: int, taken: int) -> list[int]:
        """`taken` different ones of the numbers 0 … count − 1, ascending, all sets equally likely."""
        ...


class KeyedTies:
    """By the random key of a seed and a problem."""

    def __init__(self, seed: int, problem: int):
        with jax.transfer_guard("allow"):
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 41), problem)
            words = np.asarray(jax.random.key_data(key)).ravel()
        self._rng = np.random.default_rng([int(word) for word in words])

    def choose(self, count: int, taken: int) -> list[int]:
        if taken >= count:
            return list(range(count))
        return sorted(self._rng.choice(count, taken, replace=False).tolist())


def best(scores: Sequence[float], taken: int, ties: Ties) -> list[int]:
    """The places of the `taken` highest scores, ascending; of equal ones at the border some by `ties`."""
    if taken >= len(scores):
        return list(range(len(scores)))
    border = sorted(scores, reverse=True)[taken - 1]
    above = [i for i, score in enumerate(scores) if score > border]
    equal = [i for i, score in enumerate(scores) if score == border]
    return sorted(above + [equal[i] for i in ties.choose(len(equal), taken - len(above))])
