"""Selection by a process reward model, by votes and at random, on pools of responses to many problems."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from stepjax.measures.aggregate import AGGREGATORS, aggregate
from stepjax.measures.selection import (
    best_of,
    bootstrap_interval,
    pass_at,
    permutations,
    resampled_best,
    subset_sizes,
    vote,
)


@dataclass(frozen=True)
class Pool:
    """M sampled responses to one problem.

    Attributes:
      right: whether each one's final answer is right.
      answers: a number for the answer that each gives, equal ones alike; −1: it gives none.
      scores: P(step is right) of each response's steps.
      steps: how many steps each has.
    """

    right: Bool[np.ndarray, " M"]
    answers: Int[np.ndarray, " M"]
    scores: Sequence[Float[np.ndarray, " S"]]
    steps: Int[np.ndarray, " M"]


def best_of_n_report(
    pools: Sequence[Pool], *, resamples: int = 400, seed: int = 0, aggregators: Sequence[str] = tuple(AGGREGATORS)
) -> dict[str, Any]:
    """Curves over N = 1, 2, 4 … of best-of-N and weighted majority by aggregator, of majority and of pass@N.

    Each curve has its mean over problems (exact over subsets of the pool for best-of-N and pass@N, else over
    `resamples` random ones), the 95 % interval by a bootstrap over problems, and the spread (standard deviation) of the
    mean over random subsets. `steps` is the mean number of steps of the responses that best-of-N selects: at N = 1 of
    all responses, so that a preference for short or long ones shows.

    Raises:
      ValueError: without pools, or where they differ in size.
    """
    if len({len(p.right) for p in pools}) != 1:
        raise ValueError("pools must be of one size, and there must be one")
    count = len(pools[0].right)
    sizes = subset_sizes(count)
    rng = np.random.default_rng(seed)
    exact: dict[str, list[np.ndarray]] = {}
    drawn: dict[str, np.ndarray] = {}
    steps: dict[str, list[np.ndarray]] = {how: [] for how in aggregators}

    def add(name: str, of_orders: np.ndarray, mean: np.ndarray | None = None) -> None:
        exact.setdefault(name, []).append(of_orders.mean(0) if mean is None else mean)
        drawn[name] = drawn.get(name, 0.0) + of_orders / len(pools)

    for pool in pools:
        right = np.asarray(pool.right, np.float64)
        orders = permutations(count, resamples, rng)
        add("pass", resampled_best(right, right, sizes, orders), pass_at(right, sizes))
        add("majority", vote(pool.answers, right, sizes, orders))
        for how in aggregators:
            scores = np.array([aggregate(s, how) for s in pool.scores])
            add(f"best/{how}", resampled_best(scores, right, sizes, orders), best_of(scores, right, sizes))
            add(f"weighted/{how}", vote(pool.answers, right, sizes, orders, scores))
            steps[how].append(best_of(scores, pool.steps, sizes))
    curves = {}
    for name, of_problems in exact.items():
        low, high = bootstrap_interval(np.array(of_problems), rng)
        curves[name] = {
            "mean": np.mean(of_problems, axis=0).tolist(),
            "low": low.tolist(),
            "high": high.tolist(),
            "spread": drawn[name].std(0).tolist(),
        }
    return {
        "problems": len(pools),
        "pool": count,
        "sizes": sizes,
        "resamples": resamples,
        "curves": curves,
        "steps": {how: np.mean(of_problems, axis=0).tolist() for how, of_problems in steps.items()},
    }
