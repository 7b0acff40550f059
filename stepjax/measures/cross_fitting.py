"""Choosing a method by the difficulty of a problem, measured on problems that the choice was not made on."""

import numpy as np
from jaxtyping import Float, Int

LEVELS = 5
"""Levels of difficulty, as in [Snell 2024]."""
LEAST = 8
"""Problems a level, at least; fewer levels where there are fewer problems."""
SPLITS = 20
"""Random halvings, over which the choice is averaged."""


def difficulty_levels(ease: Float[np.ndarray, " P"], levels: int = 0) -> Int[np.ndarray, " P"]:
    """The level of each problem by quantiles of `ease`: 0, the hardest, up. Equals are in one level, the levels of
    which nothing is left are not numbered.

    `levels`: how many; 0: `LEVELS`, or fewer so that each has `LEAST` problems.
    """
    ease = np.asarray(ease, np.float64)
    count = levels or max(1, min(LEVELS, len(ease) // LEAST))
    edges = np.quantile(ease, np.arange(1, count) / count)
    return np.unique(np.searchsorted(edges, ease, side="right"), return_inverse=True)[1].reshape(-1)


def cross_fitted_shares(
    worth: Float[np.ndarray, "M P"],
    levels: Int[np.ndarray, " P"],
    rng: np.random.Generator,
    *,
    splits: int = SPLITS,
) -> Float[np.ndarray, "M P"]:
    """How often each method is used for each problem, when the best method of its level is chosen on the other half.

    Each level's problems are halved at random; on one half the method of the greatest mean worth is chosen, and used on
    the other, both ways round. Of equal methods the first one is chosen, as where the other half has no problem of the
    level. The shares are means over `splits` halvings, and add up to 1.
    """
    worth = np.asarray(worth, np.float64)
    methods, problems = worth.shape
    shares = np.zeros((methods, problems))
    for _ in range(splits):
        half = halves(levels, rng)
        for level in range(int(levels.max()) + 1):
            for side in (0, 1):
                tried = (levels == level) & (half != side)
                best = int(worth[:, tried].mean(1).argmax()) if tried.any() else 0
                shares[best, (levels == level) & (half == side)] += 1 / splits
    return shares


def halves(levels: Int[np.ndarray, " P"], rng: np.random.Generator) -> Int[np.ndarray, " P"]:
    """0 or 1 for each problem, at random, as many of each as may be in every level."""
    found = np.zeros(len(levels), np.int64)
    for level in range(int(levels.max()) + 1):
        own = rng.permutation(np.flatnonzero(levels == level))
        found[own] = (np.arange(len(own)) + rng.integers(2)) % 2
    return found
