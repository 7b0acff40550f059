"""Searches compared: accuracy and cost with intervals, paired differences, choice by difficulty, over-optimisation."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from stepjax.measures.cross_fitting import cross_fitted_shares, difficulty_levels
from stepjax.measures.selection import best_of, bootstrap_interval, subset_sizes

TARGET = 0.9
"""The share of right answers whose least budget is told."""
LEAST_POOL = 4
"""Responses to a problem from which its difficulty is measured, at least: the second half of the pool."""

Name = tuple[str, int, str]
"""Method, budget, scorer."""


@dataclasses.dataclass(frozen=True)
class Pool:
    """All responses of the largest best-of-N, N to each of P problems.

    Attributes:
      scores: by a scorer; 0 where a response has no end.
      right: 1 where its answer is right.
      tokens: that they took, a problem.
    """

    scores: Float[np.ndarray, "P N"]
    right: Float[np.ndarray, "P N"]
    tokens: float


def search_report(
    cells: Mapping[Name, Mapping[str, Float[np.ndarray, " P"]]],
    pools: Mapping[str, Pool],
    *,
    reference: str,
    rated: Sequence[str],
    seed: int = 0,
) -> dict[str, Any]:
    """All figures; intervals are of 95 %, by a bootstrap over problems, which are the same in every search.

    Args:
      cells: of each search, figures a problem: `right`, `score`, `any_right`, `tokens`, `steps`, `generated`, ….
      pools: of each scorer.
      reference: the method that others are compared with.
      rated: scorers whose scores say something.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for (method, budget, prm), values in cells.items():
        own = {name: float(column.mean()) for name, column in values.items()}
        row = {"method": method, "budget": budget, "prm": prm} | own
        row |= _bounds("right", values["right"], rng)
        if method != reference:
            row |= paired_difference("gain", values["right"], cells[reference, budget, prm]["right"], rng)
        rows.append(row)
    prms = list(dict.fromkeys(prm for _, _, prm in cells))
    return {
        "cells": rows,
        "reached": {"target": TARGET, "budgets": least_budgets(rows, TARGET)},
        "optimal": {prm: found for prm in prms if (found := by_difficulty(cells, pools, prm, reference, rated, rng))},
        "over": {prm: over_optimisation(pools[prm], rng) for prm in pools if prm in rated},
    }


def _bounds(name: str, values: Float[np.ndarray, " P"], rng: np.random.Generator) -> dict[str, float]:
    low, high = bootstrap_interval(values, rng)
    return {name: float(values.mean()), f"{name}_low": float(low), f"{name}_high": float(high)}


def paired_difference(
    name: str, one: Float[np.ndarray, " P"], other: Float[np.ndarray, " P"], rng: np.random.Generator
) -> dict[str, float]:
    """The difference of two means over the same problems, drawn together."""
    return _bounds(name, np.asarray(one, np.float64) - np.asarray(other, np.float64), rng)


def least_budgets(rows: Sequence[Mapping[str, Any]], target: float) -> dict[str, dict[str, Any]]:
    """Of each scorer and method the least budget whose share of right answers is at least `target`, with the tokens
    that were written; None: none is."""
    found: dict[str, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: row["budget"]):
        of_prm = found.setdefault(row["prm"], {})
        if of_prm.get(row["method"]) is None:
            reached = row["right"] >= target
            of_prm[row["method"]] = {"budget": row["budget"], "generated": row["generated"]} if reached else None
    return found


def by_difficulty(
    cells: Mapping[Name, Mapping[str, np.ndarray]],
    pools: Mapping[str, Pool],
    prm: str,
    reference: str,
    rated: Sequence[str],
    rng: np.random.Generator,
) -> dict[str, Any]:
    """The best method of each level of difficulty, at each budget, by a scorer [Snell 2024].

    The difficulty is measured once by pass@1 (which needs the right answers) and, for `rated` scorers, once by the mean
    score, both of the second half of the largest best-of-N's responses. Budgets that use these themselves are left out:
    a problem where best-of-N was unlucky would count as hard, and the choice would gain by that alone. {} where there
    are too few responses, or there is no other method.
    """
    methods = list(dict.fromkeys(m for m, _, p in cells if p == prm))
    pool = pools.get(prm)
    if pool is None or len(methods) < 2:
        return {}
    size = pool.right.shape[1]
    apart = size // 2  # the first response of those that tell the difficulty
    budgets = [budget for budget in dict.fromkeys(n for _, n, p in cells if p == prm) if budget <= apart]
    if size - apart < LEAST_POOL or not budgets:
        return {}
    eases = {"pass": pool.right[:, apart:].mean(1)}
    if prm in rated:
        eases["score"] = pool.scores[:, apart:].mean(1)
    tokens = pool.tokens * (size - apart) / size
    found: dict[str, Any] = {"methods": methods, "responses": size - apart, "tokens": tokens, "by": {}}
    for name, ease in eases.items():
        levels = difficulty_levels(ease)
        sizes = np.bincount(levels)
        of: dict[str, Any] = {"problems": sizes.tolist(), "ease": (np.bincount(levels, ease) / sizes).tolist()}
        of["budgets"] = []
        for budget in budgets:
            right = np.stack([cells[m, budget, prm]["right"] for m in methods])
            written = np.stack([cells[m, budget, prm]["generated"] for m in methods])
            of["budgets"].append({"budget": budget} | _chosen(right, written, levels, methods.index(reference), rng))
        found["by"][name] = of
    return found


def _chosen(
    right: Float[np.ndarray, "M P"],
    written: Float[np.ndarray, "M P"],
    levels: np.ndarray,
    reference: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    shares = cross_fitted_shares(right, levels, rng)
    single = cross_fitted_shares(right, np.zeros_like(levels), rng)
    value, one = (shares * right).sum(0), (single * right).sum(0)
    return {
        **_bounds("right", value, rng),
        "generated": float((shares * written).sum(0).mean()),
        **paired_difference("over_reference", value, right[reference], rng),
        "single": float(one.mean()),
        **paired_difference("over_single", value, one, rng),
        "shares": [shares[:, levels == level].mean(1).tolist() for level in range(int(levels.max()) + 1)],
        "single_shares": single.mean(1).tolist(),
    }


def over_optimisation(pool: Pool, rng: np.random.Generator) -> dict[str, Any]:
    """Score and truth of the response with the highest score among N, as means over all subsets of the pool.

    `kl`: ln N − (N − 1) / N, the most that best-of-N's distribution may be away from the policy's [Beirami 2024].
    """
    sizes = subset_sizes(pool.right.shape[1])
    truth = np.array([best_of(s, r, sizes) for s, r in zip(pool.scores, pool.right, strict=True)])
    proxy = np.array([best_of(s, s, sizes) for s in pool.scores])
    low, high = bootstrap_interval(truth, rng)
    return {
        "sizes": sizes,
        "kl": [math.log(n) - (n - 1) / n for n in sizes],
        "score": proxy.mean(0).tolist(),
        "right": truth.mean(0).tolist(),
        "right_low": low.tolist(),
        "right_high": high.tolist(),
        "any_right": np.mean([best_of(r, r, sizes) for r in pool.right], axis=0).tolist(),
    }
