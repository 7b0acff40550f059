"""The accuracy of a majority vote among k of n responses, exactly: its mean over all subsets of size k."""

from collections.abc import Sequence
from functools import lru_cache
from math import comb

import numpy as np
from jaxtyping import Float, Int

MOST_RESPONSES = 1000
"""C(n, n/2) of more is not a number of double precision."""


def majority_at(
    groups: Int[np.ndarray, " M"], worth: Float[np.ndarray, " M"], sizes: Sequence[int]
) -> Float[np.ndarray, " K"]:
    """Expected worth of the answer with the most votes in a random subset, for each size of it.

    Where answers are tied, each of them is chosen equally often. What `selection.vote` is for random subsets, this is
    for the mean over all of them.

    Args:
      groups: the answer that each response gives, 0 …; −1: none, and no vote. A subset without votes is worth 0.
      worth: of each response, 1 for right; an answer is worth the mean of its responses.
      sizes: subset sizes k.

    Raises:
      ValueError: where a size is not in 1 … M, or M is above `MOST_RESPONSES`.
    """
    groups, worth = np.asarray(groups, np.int64), np.asarray(worth, np.float64)
    total = len(groups)
    if total > MOST_RESPONSES:
        raise ValueError(f"{total} responses; at most {MOST_RESPONSES} can be counted exactly")
    for size in sizes:
        if not 1 <= size <= total:
            raise ValueError(f"a subset of {size} cannot be drawn from {total} responses")
    given = groups[groups >= 0]
    names, index, counts = np.unique(given, return_inverse=True, return_counts=True)
    values = np.bincount(index, weights=worth[groups >= 0], minlength=len(names)) / np.maximum(counts, 1)
    answers = tuple(sorted(zip(counts.tolist(), values.tolist(), strict=True)))
    whole = _worths(answers, total)
    return np.array([whole[size] / float(comb(total, size)) for size in sizes])


@lru_cache(maxsize=4096)
def _worths(answers: tuple[tuple[int, float], ...], total: int) -> np.ndarray:
    """Sum over the subsets of each size 0 … total of the worth that their vote has.

    By the votes m of the winner: the ways to draw at most m responses of each answer are counted answer by answer, by
    how many responses are drawn (`ways[j, t]`, t answers having m) together with the summed worth of those t.
    """
    found = np.zeros(total + 1)
    silent = total - sum(count for count, _ in answers)
    for m in range(1, max((count for count, _ in answers), default=0) + 1):
        most = sum(count >= m for count, _ in answers)  # answers that can have m votes
        ways = np.zeros((total + 1, most + 1))
        worths = np.zeros_like(ways)
        ways[: silent + 1, 0] = [float(comb(silent, i)) for i in range(silent + 1)]
        for count, value in answers:
            new, of_new = np.zeros_like(ways), np.zeros_like(worths)
            for i in range(min(count, m) + 1):
                times, here = float(comb(count, i)), slice(i, None)
                before, worth_before = ways[: total + 1 - i], worths[: total + 1 - i]
                if i < m:
                    new[here] += times * before
                    of_new[here] += times * worth_before
                else:
                    new[here, 1:] += times * before[:, :-1]
                    of_new[here, 1:] += times * (worth_before + value * before)[:, :-1]
            ways, worths = new, of_new
        found += worths[:, 1:] @ (1.0 / np.arange(1, most + 1))
    return found
