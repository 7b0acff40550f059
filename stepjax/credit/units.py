"""Units of time: the runs of tokens at whose ends a discount γ and GAE's λ act.

  token     every token: GAE as usual
  step      a reasoning step
  turn      what the policy writes until an environment does [turn-level GAE, as AReaL's]
  cut:P:N   a segment; the first token whose probability was below P when it was sampled opens one, and each N-th such
            token after it [SPO 2505.23564; with N = 1 the segments of SAE 2601.07320]

Inside of a unit γ and λ are 1. Observed tokens (outside of the mask) lie in no unit and take no time.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from stepjax.credit.neighbours import before, last_of

NAMES = ("token", "step", "turn", "cut:P:N")


@dataclasses.dataclass(frozen=True)
class Unit:
    """`kind`: "token", "step", "turn" or "cut"; `below`, `every`: P and N of a cut."""

    kind: str
    below: float = 0.0
    every: int = 1


def parse_unit(text: str) -> Unit:
    """A unit from its text; ValueError where it is none."""
    kind, *values = text.split(":")
    if kind in ("token", "step", "turn") and not values:
        return Unit(kind)
    try:
        below, every = float(values[0]), int(values[1])
    except (ValueError, IndexError):
        below, every = 0.0, 0
    if kind != "cut" or len(values) != 2 or not 0.0 < below <= 1.0 or every < 1:
        raise ValueError(
            f"unit {text!r}: must be token, step, turn or cut:P:N (a probability P above 0 and at most 1, N from 1 on)"
        )
    return Unit(kind, below, every)


def unit_ends(
    unit: Unit,
    mask: Bool[Array, "B T"],
    step_end: Bool[Array, "B T"],
    turn_end: Bool[Array, "B T"] | None,
    logprobs: Float[Array, "B T"] | None,
) -> Bool[Array, "B T"]:
    """True on the last masked token of each unit; a row's last masked token always ends one.

    Args:
      step_end: True on each step's last token.
      turn_end: the same of turns; None: a response is one turn.
      logprobs: log-probability of each token, read only by cuts.
    """
    if unit.kind == "token":
        return mask
    if unit.kind == "cut":
        if logprobs is None:
            raise ValueError("unit cut:P:N: needs the tokens' log-probabilities")
        low = mask & (logprobs < jnp.log(unit.below))
        opens = low & ((jnp.cumsum(low, axis=1) - 1) % unit.every == 0)
        return mask & (next_masked(opens, mask) | last_of(mask))
    ends = step_end if unit.kind == "step" else turn_end
    return last_of(mask) if ends is None else mask & (ends | last_of(mask))


def next_masked(places: Bool[Array, "B T"], mask: Bool[Array, "B T"]) -> Bool[Array, "B T"]:
    """Whether the next masked token after each token is one of `places`; False where none follows."""
    columns = mask.shape[1]
    at = jnp.where(mask, jnp.arange(columns), columns)
    following = jnp.pad(jax.lax.cummin(at, axis=1, reverse=True), ((0, 0), (0, 1)), constant_values=columns)[:, 1:]
    padded = jnp.pad(places & mask, ((0, 0), (0, 1)))
    return jnp.take_along_axis(padded, following, axis=1)


def unit_index(ends: Bool[Array, "B T"]) -> Int[Array, "B T"]:
    """0, 1, … for the units of a row, from the ends of its units; an observed token has that of what follows it."""
    return jnp.pad(jnp.cumsum(ends, axis=1, dtype=jnp.int32), ((0, 0), (1, 0)))[:, :-1]


def unit_starts(ends: Bool[Array, "B T"], mask: Bool[Array, "B T"]) -> Bool[Array, "B T"]:
    """True on the first masked token of each unit."""
    return mask & (before(ends.astype(jnp.float32), mask, jnp.ones(mask.shape[0])) > 0)


def held(
    rewards: Float[Array, "B T"], values: Float[Array, "B T"], mask: Bool[Array, "B T"], ends: Bool[Array, "B T"]
) -> tuple[Float[Array, "B T"], Float[Array, "B T"]]:
    """A unit as one action: its rewards added up on its last token, and the value of its first token on all of them.

    The walk with γ = λ = 1 inside of the unit then gives δ_u = Σr_u + γV_{u+1} − V_u to each of its tokens.
    """
    index = jnp.where(mask, unit_index(ends), mask.shape[1])
    sums = add_up(rewards, index, mask.shape[1])
    rewards = jnp.where(ends, jnp.take_along_axis(sums, jnp.minimum(index, mask.shape[1] - 1), axis=1), 0.0)
    columns = jnp.where(unit_starts(ends, mask), jnp.arange(mask.shape[1]), 0)
    return rewards, jnp.take_along_axis(values, jax.lax.cummax(columns, axis=1), axis=1)


def add_up(x: Float[Array, "B T"], key: Int[Array, "B T"], size: int) -> Float[Array, "B K"]:
    """Σ of a row's numbers by key in [0, size); those of other keys (not negative) are left out."""
    zeros = jnp.zeros(size, jnp.float32)
    return jax.vmap(lambda x, key: zeros.at[key].add(x, mode="drop"))(x, key)
