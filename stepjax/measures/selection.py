"""Selection of one of N responses: best-of-N, pass@N, majority and weighted majority, on a pool of M ≥ N responses.

A single subset of N responses is a noisy measure, so all figures are means over the pool's subsets: exact where the
choice depends only on an order, over random subsets where responses vote. Ties are broken evenly: what is counted is
the expected worth of the choice.
"""

from collections.abc import Sequence
from math import comb

import numpy as np
from jaxtyping import Float, Int

TIE = 1e-9
"""Sums of weights closer than this, relative to the largest, are equal: they differ in the order of their terms."""


def subset_sizes(pool: int) -> list[int]:
    """1, 2, 4 … up to the pool's size."""
    return [2**k for k in range(pool.bit_length()) if 2**k <= pool]


def chance_all_below(pool: int, size: int) -> Float[np.ndarray, " pool+1"]:
    """P(all of `size` responses drawn from `pool` without replacement are among c given ones), for c = 0 … pool."""
    whole = comb(pool, size)
    return np.array([comb(c, size) / whole for c in range(pool + 1)])


def best_of(
    scores: Float[np.ndarray, " M"], worth: Float[np.ndarray, " M"], sizes: Sequence[int]
) -> Float[np.ndarray, " K"]:
    """Expected `worth` of the highest-scored response of a random subset, for each size of it.

    With the responses sorted by score, the best one falls into a group of equal scores with probability
    [C(c, N) − C(c', N)] / C(M, N), c responses being in this group or below and c' below; in it, by symmetry, its worth
    is the group's mean. `worth` is 1 for a right response and 0 for a wrong one, or anything else (its length).

    Raises:
      ValueError: where a score is NaN or a size is not in 1 … M.
    """
    scores, worth = np.asarray(scores, np.float64), np.asarray(worth, np.float64)
    if np.isnan(scores).any():
        raise ValueError("a score is NaN")
    _check_sizes(sizes, len(scores))
    _, group, counts = np.unique(scores, return_inverse=True, return_counts=True)
    means = np.bincount(group, weights=worth) / counts
    until = np.cumsum(counts)
    expected = []
    for size in sizes:
        below = chance_all_below(len(scores), size)
        expected.append(float(np.diff(below[until], prepend=0.0) @ means))
    return np.array(expected)


def pass_at(worth: Float[np.ndarray, " M"], sizes: Sequence[int]) -> Float[np.ndarray, " K"]:
    """P(at least one right response in a random subset) = 1 − C(M − right, N) / C(M, N) [Chen 2021]."""
    right = np.asarray(worth, np.float64)
    _check_sizes(sizes, len(right))
    return best_of(right, right, sizes)


def vote(
    groups: Int[np.ndarray, " M"],
    worth: Float[np.ndarray, " M"],
    sizes: Sequence[int],
    orders: Int[np.ndarray, "R M"],
    weights: Float[np.ndarray, " M"] | None = None,
) -> Float[np.ndarray, "R K"]:
    """Worth of the answer with the most votes among the first N responses of each order, for each size N.

    Args:
      groups: the answer that each response gives, 0 …; −1: none, and no vote. A subset without votes is worth 0.
      worth: of each response, 1 for right; an answer is worth the mean of its responses.
      sizes: subset sizes N.
      orders: R random permutations of the pool: subsets of growing size.
      weights: of each response's vote, not negative; None: one each.

    Returns:
      the worth for each order and size, tied answers counted evenly.
    """
    groups, worth = np.asarray(groups, np.int64), np.asarray(worth, np.float64)
    _check_sizes(sizes, len(groups))
    weights = np.ones(len(groups)) if weights is None else np.asarray(weights, np.float64)
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError("weights of votes must be finite and not negative")
    if not (groups >= 0).any():
        return np.zeros((len(orders), len(sizes)))
    names, index = np.unique(groups[groups >= 0], return_inverse=True)
    members = np.zeros((len(groups), len(names)))
    members[np.flatnonzero(groups >= 0), index] = 1.0
    value = members.T @ worth / members.sum(0)
    at = np.asarray(sizes) - 1
    votes = np.cumsum((members * weights[:, None])[orders], axis=1)[:, at]  # [R, K, G]
    if (weights > 0).all():
        voted = votes > 0
    else:  # an answer without weight is still one that was given
        voted = np.cumsum(members[orders], axis=1)[:, at] > 0
    votes = np.where(voted, votes, -np.inf)
    top = votes.max(-1, keepdims=True)
    tied = (votes >= top - TIE * np.abs(top)) & voted
    return (tied @ value) / np.maximum(tied.sum(-1), 1)


def permutations(pool: int, count: int, rng: np.random.Generator) -> Int[np.ndarray, "R M"]:
    """`count` random orders of a pool."""
    return rng.permuted(np.tile(np.arange(pool), (count, 1)), axis=1)


def resampled_best(
    scores: Float[np.ndarray, " M"],
    worth: Float[np.ndarray, " M"],
    sizes: Sequence[int],
    orders: Int[np.ndarray, "R M"],
) -> Float[np.ndarray, "R K"]:
    """Worth of the best-scored among the first N of each order: what `best_of` is the mean of, for its spread."""
    scores, worth = np.asarray(scores, np.float64), np.asarray(worth, np.float64)
    _check_sizes(sizes, len(scores))
    drawn = scores[orders]
    top = np.maximum.accumulate(drawn, axis=1)
    found = np.empty((len(orders), len(sizes)))
    for k, size in enumerate(sizes):
        tied = drawn[:, :size] == top[:, size - 1 : size]
        found[:, k] = (tied * worth[np.asarray(orders)[:, :size]]).sum(1) / tied.sum(1)
    return found


def bootstrap_interval(
    values: Float[np.ndarray, "P ..."], rng: np.random.Generator, *, draws: int = 2000, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval of the mean over problems, drawing P problems with replacement [Efron 1979]."""
    values = np.asarray(values, np.float64)
    count = len(values)
    if not count:
        nothing = np.full(values.shape[1:], np.nan)
        return nothing, nothing
    times = rng.multinomial(count, np.full(count, 1 / count), size=draws) / count  # [draws, P]
    means = np.tensordot(times, values, axes=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def _check_sizes(sizes: Sequence[int], pool: int) -> None:
    for size in sizes:
        if not 1 <= size <= pool:
            raise ValueError(f"a subset of {size} cannot be drawn from {pool} responses")
