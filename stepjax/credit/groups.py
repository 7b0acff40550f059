"""Group baselines: the G responses to a problem, in consecutive rows, are compared with each other."""

import chex
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from stepjax.credit.neighbours import before


def normalise_by_group(scores: Float[Array, "B T"], scored: Bool[Array, "B T"], *, group: int) -> Float[Array, "B T"]:
    """GRPO with process rewards [Shao 2024, 2402.03300, §4.1.3]: (r − mean) / std of each score.

    What is normalised is each single score (of a step, where a signal scores steps), never a row's sum. Mean and
    standard deviation (biased) run over all scores of all G responses to the problem, so that a response with more
    steps has more weight. Where all scores of a group are the same, rounding apart, the result is 0.

    Args:
      scores: `[B, T]`, float32.
      scored: True on the tokens that carry a score, `[B, T]`; others are not read and get 0.
      group: G; rows i·G … i·G + G − 1 belong together.
    """
    chex.assert_is_divisible(scores.shape[0], group)

    def over_group(of, x, empty):
        """`of` the scores of a group, back on each of its rows: `[B, 1]`."""
        of_rows = of(jnp.where(scored, x, empty), axis=1).reshape(-1, group)
        return jnp.repeat(of(of_rows, axis=1), group)[:, None]

    count = jnp.maximum(over_group(jnp.sum, jnp.ones_like(scores), 0.0), 1.0)
    # Measured from the least score, equal scores differ by exactly 0 and have a mean of exactly 0.
    above = jnp.where(scored, scores - over_group(jnp.min, scores, jnp.inf), 0.0)
    deviation = above - over_group(jnp.sum, above, 0.0) / count
    std = jnp.sqrt(over_group(jnp.sum, jnp.square(deviation), 0.0) / count)
    varies = std > 1e-6 * over_group(jnp.max, jnp.abs(scores), 0.0)
    return jnp.where(scored & varies, deviation / jnp.where(varies, std, 1.0), 0.0)


def leave_one_out(
    returns: Float[Array, "B T"],
    mask: Bool[Array, "B T"],
    factor: Float[Array, "B T"],
    earned: Bool[Array, "B T"],
    *,
    group: int,
) -> Float[Array, "B T"]:
    """RLOO [Ahmadian 2024, 2402.14740]: each token's return minus a mean return of the other G − 1 responses.

    Which returns those are follows from the horizon. A row is a chain of episodes: one begins at the response's first
    token, and another after a boundary of factor c, with weight 1 − c. The baseline of a row is the weighted mean of
    the returns at these beginnings, over all other rows of its group:

      "response" (c = 1): the mean of the other rows' whole returns;
      "step" (c = 0): the mean of the rewards of all steps of the other rows [as PRIME, 2502.01456, does by token];
      "turn": the mean of the returns of all turns of the other rows; a number c lies between the first two.

    It is one number a row and does not depend on that row: it does not bias the gradient, and does not reward a few
    giant steps as a baseline for each later step would.

    Args:
      returns: G_t, the discounted sum of the rewards over the horizon, float32 `[B, T]`.
      mask: True on response tokens.
      factor: c_t between a token and the next masked one, in [0, 1].
      earned: True where a score lies within the token's horizon. Elsewhere (a step that was cut off before it was
        rated) the return is unknown rather than 0: it counts in no mean, and the result is 0.
      group: G ≥ 2; rows i·G … i·G + G − 1 belong together.
    """
    rows = returns.shape[0]
    chex.assert_is_divisible(rows, group)
    known = mask & earned
    weight = jnp.where(known, 1.0 - before(factor, mask, jnp.zeros(rows)), 0.0)

    def over_others(x):
        """Σ over the other rows of the group, `[B, 1]`: summed as such, a total less one's own would lose digits."""
        of_rows = jnp.sum(x, axis=1).reshape(-1, 1, group)
        return jnp.sum(jnp.where(jnp.eye(group, dtype=bool), 0.0, of_rows), axis=-1).reshape(rows, 1)

    count = over_others(weight)
    baseline = over_others(weight * returns) / jnp.where(count > 0, count, 1.0)
    return jnp.where(known, returns - baseline, 0.0)
