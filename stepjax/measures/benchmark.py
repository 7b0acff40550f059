"""Figures of a policy on a benchmark from several responses to each problem: avg@n, pass@k, maj@k, with intervals."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from stepjax.measures.intervals import wilson
from stepjax.measures.majority import majority_at
from stepjax.measures.selection import bootstrap_interval, pass_at, subset_sizes


def benchmark_report(
    right: Bool[np.ndarray, "P n"], groups: Int[np.ndarray, "P n"], *, seed: int = 0
) -> dict[str, Any]:
    """The figures of `n` responses to each of P problems.

    `avg` is the share of right responses (avg@n, which is also the estimate of pass@1); `pass` and `maj` hold a figure
    for each of `sizes` k: the chance that one of k responses is right, by the unbiased estimator
    1 − C(n − c, k) / C(n, k) [Chen 2021, eq. 1], and that the answer that most of k responses give is right, both as
    the mean over all subsets of k responses. A figure is {"value", "low", "high", "interval"}, see `figure`.

    Args:
      right: whether each response is right.
      groups: a number for the answer of each response, equal ones alike within a problem; −1: it gives none.
      seed: of the bootstrap.
    """
    right, groups = np.asarray(right, bool), np.asarray(groups, np.int64)
    count = right.shape[1]
    sizes = sorted({*subset_sizes(count), count})
    worth = right.astype(np.float64)
    rows = {
        "pass": np.array([pass_at(of_one, sizes) for of_one in worth]),
        "maj": np.array([majority_at(g, w, sizes) for g, w in zip(groups, worth, strict=True)]),
    }
    return {
        "problems": len(right),
        "samples": count,
        "sizes": sizes,
        "avg": figure(worth.mean(1), seed),
        **{name: [figure(column, seed) for column in values.T] for name, values in rows.items()},
    }


def figure(of_problems: Float[np.ndarray, " P"], seed: int = 0) -> dict[str, Any]:
    """The mean over problems with its 95 % interval; `interval` says which.

    wilson: each problem counts 0 or 1 (one response each, or all of them in one choice), so that the mean is a share of
    P independent trials. bootstrap: problems count in part; the problems, with all their responses, are drawn with
    replacement [Efron 1979]. Where all problems count the same part a bootstrap has no width, and Wilson's interval is
    the wider one.
    """
    values = np.asarray(of_problems, np.float64)
    mean, total = float(values.mean()), len(values)
    low: float
    high: float
    if np.isin(values, (0.0, 1.0)).all() or np.ptp(values) == 0:
        low, high = wilson(float(values.sum()), total)
        return {"value": mean, "low": low, "high": high, "interval": "wilson"}
    low, high = (float(end) for end in bootstrap_interval(values, np.random.default_rng(seed)))
    return {"value": mean, "low": low, "high": high, "interval": "bootstrap"}
