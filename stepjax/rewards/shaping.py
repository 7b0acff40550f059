"""Shaping of step scores, so that a response cannot raise their sum by more steps.

All take `[B, S]`, one score a step, and a mask of the steps that are there; they return float32 with 0 outside the
mask. Steps outside the mask never count, wherever they are: "the next step" is the next valid one.
"""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def _valid(scores: Float[Array, "B S"], mask: Bool[Array, "B S"]) -> Float[Array, "B S"]:
    """The scores in float32, 0 outside the mask, after the checks that all shapings share."""
    chex.assert_rank([scores, mask], 2)
    chex.assert_equal_shape([scores, mask])
    chex.assert_type([scores, mask], [float, bool])
    return jnp.where(mask, scores, 0).astype(jnp.float32)


def clip(scores: Float[Array, "B S"], mask: Bool[Array, "B S"], *, eta: chex.Numeric) -> Float[Array, "B S"]:
    """r_k ← min(r_k − η, 0): no step earns, bad steps cost [Gao 2024].

    Args:
      scores: r_k of steps 1..S, `[B, S]`.
      mask: True on steps that are there.
      eta: η, the score from which on a step is free; between the neutral and the good score.
    """
    return jnp.where(mask, jnp.minimum(_valid(scores, mask) - eta, 0.0), 0.0)


def delta(scores: Float[Array, "B S"], mask: Bool[Array, "B S"]) -> Float[Array, "B S"]:
    """r_k − r_{k+1} for k < K−1, r_{K−1} for k = K−1, 0 for k = K, over a row's K valid steps [Gao 2024].

    The undiscounted sum from step k < K on is r_k: a response's total does not grow with its number of steps.
    """
    scores = _valid(scores, mask)
    steps = scores.shape[1]
    index = jnp.where(mask, jnp.arange(steps), steps - 1)
    following = jnp.roll(jax.lax.cummin(index, axis=1, reverse=True), -1, axis=1)  # of the next valid step, if any
    left = jnp.sum(mask, axis=1, keepdims=True) - jnp.cumsum(mask, axis=1)  # valid steps after this one
    difference = scores - jnp.take_along_axis(scores, following, axis=1)
    shaped = jnp.where(left >= 2, difference, jnp.where(left == 1, scores, 0.0))
    return jnp.where(mask, shaped, 0.0)


def min_form(
    scores: Float[Array, "B S"], mask: Bool[Array, "B S"], *, temperature: chex.Numeric
) -> Float[Array, "B S"]:
    """r*_k = softmax_k(−r / τ) · r_k over a row's valid steps [PURE 2504.15275].

    For small τ only the worst step keeps its score: summed from any step up to it, the row gives its minimum, after
    it 0.

    Args:
      scores: r_k of steps 1..S, `[B, S]`.
      mask: True on steps that are there; a missing step's 0 can never be the minimum.
      temperature: τ > 0, in units of the score.
    """
    scores = _valid(scores, mask)
    # Measured from the minimum, which the softmax does not see: however small τ is, nothing overflows to ∞ − ∞.
    above = scores - jnp.min(jnp.where(mask, scores, jnp.inf), axis=1, keepdims=True, initial=jnp.inf)
    logits = jnp.where(mask, -above / temperature, jnp.finfo(jnp.float32).min)  # not −inf: a row may be empty
    return jnp.where(mask, jax.nn.softmax(logits, axis=1) * scores, 0.0)


def bound(
    scores: Float[Array, "B S"], mask: Bool[Array, "B S"], *, low: chex.Numeric, high: chex.Numeric
) -> Float[Array, "B S"]:
    """r_k ← min(max(r_k, low), high): plain reward clipping.

    Args:
      scores: r_k of steps 1..S, `[B, S]`.
      mask: True on steps that are there.
      low, high: the bounds, in units of the score.
    """
    return jnp.where(mask, jnp.clip(_valid(scores, mask), low, high), 0.0)


def best_of(scores: Float[Array, "B S"], mask: Bool[Array, "B S"], *, count: chex.Numeric) -> Float[Array, "B S"]:
    """V_k ← 1 − (1 − V_k)^K: the chance that the best of K completions succeeds, a prover for PAV [2410.08146].

    Args:
      scores: V_k, the chance of success after step k, `[B, S]`; held to [0, 1].
      mask: True on steps that are there.
      count: K.
    """
    return jnp.where(mask, 1.0 - (1.0 - jnp.clip(_valid(scores, mask), 0.0, 1.0)) ** count, 0.0)


def early(scores: Float[Array, "B S"], mask: Bool[Array, "B S"]) -> Float[Array, "B S"]:
    """r_k ← r_k·e^{1 − (k−1)/(K−1)} where r_k < 0, over K valid steps [MRPO 2606.31825]: early mistakes cost more.

    The factor falls from e at the first step to 1 at the last one; it is 1 where there is one step.
    """
    scores = _valid(scores, mask)
    before = jnp.cumsum(mask, axis=1) - 1  # k − 1
    steps = jnp.sum(mask, axis=1, keepdims=True)
    factor = jnp.where(steps > 1, jnp.exp(1.0 - before / jnp.maximum(steps - 1, 1)), 1.0)
    return jnp.where(mask, jnp.where(scores < 0, scores * factor, scores), 0.0)


def share(scores: Float[Array, "B S"], mask: Bool[Array, "B S"], *, sizes: Int[Array, "B S"]) -> Float[Array, "B S"]:
    """r_k ← N·r_k / (n_k·Σ_j r_j) for a step of n_k among a row's N tokens [DRACO 2609.04094].

    As a factor of a response's advantage it divides it among the steps in proportion to their scores: the mean over the
    tokens stays the same. Where the scores add up to 0 or less, every step gets 1.

    Args:
      scores: r_k ≥ 0 of steps 1..S, `[B, S]`.
      mask: True on steps that are there.
      sizes: n_k, tokens of each step, `[B, S]`; not read outside the mask.
    """
    scores = _valid(scores, mask)
    sizes = jnp.where(mask, sizes, 0)
    total = jnp.sum(scores, axis=1, keepdims=True)
    shared = jnp.sum(sizes, axis=1, keepdims=True) * scores / (jnp.maximum(sizes, 1) * jnp.where(total > 0, total, 1.0))
    return jnp.where(mask, jnp.where(total > 0, shared, 1.0), 0.0)
