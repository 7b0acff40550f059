"""The baselines of a stream: which entries it compares, before the walk (scores) or after it (returns)."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from stepjax.credit.compare import Peers, compare
from stepjax.credit.horizon import within
from stepjax.credit.neighbours import before, last_of
from stepjax.credit.stream import Stream
from stepjax.credit.units import unit_index, unit_starts


@dataclasses.dataclass(frozen=True)
class Rows:
    """What is known of the responses beside their rewards; attributes as the arguments of `streams.combine`."""

    mask: Bool[Array, "B T"]
    ends: Bool[Array, "B T"]
    finished: Bool[Array, " B"] | None
    correct: Bool[Array, " B"] | None
    state: Int[Array, "B T"] | None
    group: int

    @property
    def ended(self) -> Bool[Array, " B"]:
        """Whether each response ended by itself."""
        return jnp.ones(self.mask.shape[0], bool) if self.finished is None else self.finished

    def judged(self, verdict: str) -> Bool[Array, " B"]:
        """Which responses are "right" or "wrong"; a truncated one is neither."""
        if self.correct is None:
            raise ValueError(f"gate or pay {verdict!r}: needs to know which responses are correct")
        return self.ended & (self.correct if verdict == "right" else ~self.correct)


def minus_scores(
    stream: Stream,
    scores: Float[Array, "B T"],
    scored: Bool[Array, "B T"],
    units: Bool[Array, "B T"],
    rows: Rows,
) -> Float[Array, "B T"]:
    """GRPO with process rewards [Shao 2024, 2402.03300, §4.1.3] and its kin: each score less its peers' mean.

    What is compared is each single score (of a step, where a signal scores steps), never a row's sum: a response with
    more steps has more weight in the mean, unless `among="response"` compares with the mean of each response. With
    `among="index"` (or over the problem) the number of means that are subtracted from a return depends on where its
    response stops, which biases the gradient [verl #7244].

    Args:
      scores: `[B, T]`, float32.
      scored: True on the tokens that carry a score; others are not read and get 0.
      units: True on each unit's last token.
    """
    if stream.rule.of_a_step:
        scored = scored & rows.ends
    peers = _peers(stream, units, rows)
    if stream.among == "response":
        one = last_of(scored).astype(jnp.float32)
        return _compared(stream, scores, scored, one, peers, _mean_of_row(scores, scored))
    return _compared(stream, scores, scored, scored.astype(jnp.float32), peers)


def minus_returns(
    stream: Stream,
    returns: Float[Array, "B T"],
    scored: Bool[Array, "B T"],
    factor: Float[Array, "B T"],
    units: Bool[Array, "B T"],
    rows: Rows,
) -> Float[Array, "B T"]:
    """RLOO [Ahmadian 2024, 2402.14740] and its kin: each token's return less the mean of other returns.

    Which returns those are follows from `among`. Over the problem a row is a chain of episodes: one begins at the
    response's first token, and another after a boundary of factor c, with weight 1 − c; the entries are the returns at
    these beginnings, all of a group in one mean:

      "response" (c = 1): the whole returns of the rows;
      "step" (c = 0): the rewards of all steps [as PRIME, 2502.01456, does by token];
      "turn": the returns of all turns; a number c lies between the first two.

    That is one number a row. With `others` it does not depend on that row: it does not bias the gradient, and does not
    reward a few giant steps as a baseline for each later step would.

    With `among="index"` or "state" the entries are the returns at the first token of each unit (of a sum so far: at its
    last token), compared with those of the same number or state. A response that ended before unit k has a return of 0
    there: with `others` the baseline of a unit depends on no token of the response itself, and is unbiased.

    Where no score lies within a token's horizon (a step that was cut off before it was rated) the return is unknown
    rather than 0: it counts in no mean, and the result is 0.

    Args:
      returns: G_t, the discounted sum of the rewards over the horizon, float32 `[B, T]`.
      scored: True on the tokens that carry a score.
      factor: c_t between a token and the next masked one, in [0, 1].
      units: True on each unit's last token.
    """
    mask, so_far = rows.mask, stream.sum == "so_far"
    if so_far:
        turned = before(factor, mask, jnp.ones(mask.shape[0]))
        known = jnp.flip(within(jnp.flip(scored, 1), jnp.flip(mask, 1), jnp.flip(turned, 1)), 1)
    else:
        known = within(scored, mask, factor)
    known = mask & known
    peers = _peers(stream, units, rows)
    if stream.among == "problem":
        share = 1.0 - (jnp.where(last_of(mask), 0.0, factor) if so_far else before(factor, mask, jnp.zeros(len(mask))))
        return _compared(stream, returns, known, jnp.where(known, share, 0.0), peers)
    entries = known & (units if so_far else unit_starts(units, mask))
    if stream.among == "index" and not so_far:
        number = jnp.sum(units, axis=1, keepdims=True)
        absent = rows.ended[:, None] & (jnp.arange(peers.size)[None] >= number)
        if stream.gate != "all":
            absent &= rows.judged(stream.gate)[:, None]
        peers = dataclasses.replace(peers, absent=absent)
    return _compared(stream, returns, known, entries.astype(jnp.float32), peers)


def first_of_others(outcome: Float[Array, " B"] | None, rows: Rows) -> Float[Array, " B"]:
    """V(0) of each row: the mean outcome of the group's other finished responses, 0 where there is none."""
    if outcome is None:
        raise ValueError("prompt_value 'others': needs the outcomes of the responses")
    peers, known = Peers(rows.group), rows.ended[:, None]
    outcome = outcome[:, None].astype(jnp.float32)
    weight = known.astype(jnp.float32)
    count = peers.over_others(peers.sums(weight))
    return (peers.over_others(peers.sums(weight * jnp.where(known, outcome, 0.0))) / jnp.maximum(count, 1.0))[:, 0]


def _compared(
    stream: Stream,
    x: Float[Array, "B T"],
    known: Bool[Array, "B T"],
    weight: Float[Array, "B T"],
    peers: Peers,
    entries: Float[Array, "B T"] | None = None,
) -> Float[Array, "B T"]:
    return compare(x, known, weight, peers, baseline=stream.rule.baseline, scale=stream.rule.scale, entries=entries)


def _mean_of_row(x: Float[Array, "B T"], there: Bool[Array, "B T"]) -> Float[Array, "B T"]:
    """The mean of a row's numbers that are `there`, on all of its tokens; that of equal ones is exactly the same."""
    count = jnp.sum(there, axis=1, keepdims=True, dtype=jnp.int32)
    low = jnp.where(count > 0, jnp.min(jnp.where(there, x, jnp.inf), axis=1, keepdims=True), 0.0)
    above = jnp.sum(jnp.where(there, x - low, 0.0), axis=1, keepdims=True)
    return jnp.broadcast_to(low + above / jnp.maximum(count, 1), x.shape)


def _peers(stream: Stream, units: Bool[Array, "B T"], rows: Rows) -> Peers:
    """Who is compared with whom."""
    length = rows.mask.shape[1]
    if stream.among in ("problem", "response"):
        return Peers(rows.group)
    index = jnp.minimum(unit_index(units), length - 1)
    if stream.among == "index":
        return Peers(rows.group, index, length)
    if rows.state is None:
        raise ValueError("among='state': needs the states of the tokens")
    # A unit has the state before its first token.
    columns = jnp.where(unit_starts(units, rows.mask), jnp.arange(length), 0)
    held = _latest(rows.state, columns)
    return Peers(rows.group, held, rows.group * length)


def _latest(x: Int[Array, "B T"], columns: Int[Array, "B T"]) -> Int[Array, "B T"]:
    """The number of `x` in the last of these columns up to each token."""
    return jnp.take_along_axis(x, jax.lax.cummax(columns, axis=1), axis=1)
