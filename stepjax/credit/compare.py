"""Group baselines: scores or returns of the G responses to a problem, in consecutive rows, compared with each other.

Everything that is compared is an entry: a number on a token, with a weight. Entries with the same key are peers: with
no key those of all G responses, else those of the same unit's number (`among=index`) or of the same state
(`among=state`); with `among=response` a response has one entry, the mean of its scores. From an entry the mean of its
peers is subtracted, its own included (`mean`) or only those of the other responses (`others`); `scale` divides by the
peers' standard deviation.
"""

import dataclasses

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from stepjax.credit.units import add_up

BASELINES = ("others", "mean")
SCALES = ("none", "std", "sample_std")


@dataclasses.dataclass(frozen=True)
class Peers:
    """Which entries are compared with each other.

    Attributes:
      group: G; rows i·G … i·G + G − 1 belong together.
      key: `[B, T]`, from 0 to size − 1 on tokens that have one; None: all entries of the group are peers.
      size: number of keys, static; each sum by key is a table of B · size numbers.
      absent: `[B, size]`, True where a response that has no entry with this key counts as an entry of 0.
    """

    group: int
    key: Int[Array, "B T"] | None = None
    size: int = 1
    absent: Bool[Array, "B K"] | None = None

    def sums(self, x: Float[Array, "B T"]) -> Float[Array, "B K"]:
        """Σ over a row's tokens by key."""
        return jnp.sum(x, axis=1, keepdims=True) if self.key is None else add_up(x, self.key, self.size)

    def least(self, x: Float[Array, "B T"]) -> Float[Array, "B K"]:
        """The least number of each row by key, ∞ where there is none."""
        if self.key is None:
            return jnp.min(x, axis=1, keepdims=True)
        start = jnp.full(self.size, jnp.inf)
        return jax.vmap(lambda x, key: start.at[key].min(x, mode="drop"))(x, self.key)

    def at(self, table: Float[Array, "B K"]) -> Float[Array, "B #T"]:
        """A table's entry for each token."""
        if self.key is None:
            return table
        return jnp.take_along_axis(table, jnp.minimum(self.key, self.size - 1), axis=1)

    def over_group(self, table: Float[Array, "B K"], of=jnp.sum) -> Float[Array, "B K"]:
        """`of` the tables of a group's rows, on each of its rows."""
        return jnp.repeat(of(table.reshape(-1, self.group, table.shape[1]), axis=1), self.group, axis=0)

    def over_others(self, table: Float[Array, "B K"]) -> Float[Array, "B K"]:
        """Σ over the other rows of the group: summed as such, a total less one's own would lose digits."""
        if self.key is None:
            of_rows = table.reshape(-1, 1, self.group)
            kept = jnp.where(jnp.eye(self.group, dtype=bool), 0.0, of_rows)
            return jnp.sum(kept, axis=-1).reshape(-1, 1)
        rows = table.reshape(-1, self.group, table.shape[1])
        ahead = jnp.cumsum(rows, axis=1)[:, :-1]
        behind = jnp.flip(jnp.cumsum(jnp.flip(rows, 1), axis=1), 1)[:, 1:]
        return (jnp.pad(ahead, ((0, 0), (1, 0), (0, 0))) + jnp.pad(behind, ((0, 0), (0, 1), (0, 0)))).reshape(
            table.shape
        )


def compare(
    x: Float[Array, "B T"],
    known: Bool[Array, "B T"],
    weight: Float[Array, "B T"],
    peers: Peers,
    *,
    baseline: str,
    scale: str = "none",
    entries: Float[Array, "B T"] | None = None,
) -> Float[Array, "B T"]:
    """(x − baseline) / scale on the tokens where x is `known`, 0 elsewhere.

    Equal peers differ by exactly 0 from their mean, and where all of an entry's peers are the same, rounding apart, a
    scaled result is 0. Without a peer in another response the baseline of `others` is 0.

    Args:
      x: `[B, T]`, float32; not read where it is not known.
      known: True on the tokens that get a result.
      weight: of each token as an entry, 0 for those that are none, `[B, T]`.
      peers: which of them are compared.
      baseline: "mean" or "others".
      scale: "none", "std" (biased, over all peers) or "sample_std" (unbiased: over n − 1; 0 for a single entry).
      entries: what x is compared with, on the tokens with a weight; None: x itself.
    """
    chex.assert_is_divisible(x.shape[0], peers.group)
    x = jnp.where(known, x, 0.0)
    own, x = x, x if entries is None else jnp.where(weight > 0, entries, 0.0)
    count, extra = peers.sums(weight), None
    if peers.absent is not None:
        extra = jnp.where(peers.absent, 1.0, 0.0)
        count = count + extra
    if baseline == "others":
        others = peers.over_others(count)
        mean = peers.over_others(peers.sums(weight * x)) / jnp.where(others > 0, others, 1.0)
        deviation = own - peers.at(mean)
        if scale == "none":
            return jnp.where(known, deviation, 0.0)
    total = jnp.maximum(peers.over_group(count), jnp.finfo(jnp.float32).tiny)
    low = peers.least(jnp.where(weight > 0, x, jnp.inf))
    if extra is not None:
        low = jnp.where(extra > 0, jnp.minimum(low, 0.0), low)
    low = peers.over_group(low, jnp.min)
    low = jnp.where(jnp.isfinite(low), low, 0.0)
    # Measured from the least entry, equal ones differ by exactly 0 and have a mean of exactly 0.
    above = peers.sums(jnp.where(weight > 0, weight * (x - peers.at(low)), 0.0))
    if extra is not None:
        above = above - extra * low
    mean = peers.over_group(above) / total
    from_mean = x - peers.at(low) - peers.at(mean)
    if baseline == "mean":
        deviation = own - peers.at(low) - peers.at(mean)
    if scale == "none":
        return jnp.where(known, deviation, 0.0)
    squares = peers.sums(weight * jnp.square(from_mean))
    if extra is not None:
        squares = squares + extra * jnp.square(low + mean)
    n = total if scale == "std" else total - 1.0
    std = peers.at(jnp.where(n > 0, jnp.sqrt(peers.over_group(squares) / jnp.where(n > 0, n, 1.0)), 0.0))
    size = peers.at(peers.over_group(-peers.least(jnp.where(weight > 0, -jnp.abs(x), jnp.inf)), jnp.max))
    varies = std > 1e-6 * jnp.maximum(size, 0.0)
    return jnp.where(known & varies, deviation / jnp.where(varies, std, 1.0), 0.0)
