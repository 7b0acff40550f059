"""Reward streams: signals, each with its horizon and baseline, credited in one walk and summed into one weight."""

import dataclasses
from collections.abc import Mapping, Sequence

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from stepjax.credit.baselines import Rows, first_of_others, minus_returns, minus_scores
from stepjax.credit.estimators import Scores
from stepjax.credit.gae import factored_gae
from stepjax.credit.horizon import boundary_factor
from stepjax.credit.neighbours import before, last_of
from stepjax.credit.stream import Stream, check_group, check_links
from stepjax.credit.units import held, unit_ends
from stepjax.credit.whiten import whiten

__all__ = ["Credit", "Stream", "combine"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Credit:
    """Credit of the streams to each token; 0 outside the mask.

    Attributes:
      advantages: A_t of each stream before weighting, whitened where asked, `[N, B, T]`.
      returns: targets of each stream's value head, `[N, B, T]`; never whitened. Without a critic, the plain sum over
        the horizon (no baseline is subtracted).
      weight: Σ_i weight_i · A_i,t, the policy's weight, `[B, T]`.
    """

    advantages: Float[Array, "N B T"]
    returns: Float[Array, "N B T"]
    weight: Float[Array, "B T"]


def combine(
    streams: Sequence[Stream],
    rewards: Float[Array, "N B T"],
    values: Float[Array, "N B T"],
    mask: Bool[Array, "B T"],
    step_end: Bool[Array, "B T"],
    *,
    bootstrap: Float[Array, "N B"] | None = None,
    turn_end: Bool[Array, "B T"] | None = None,
    scored: Bool[Array, "N B T"] | None = None,
    first: Float[Array, "N B"] | None = None,
    outcome: Float[Array, "N B"] | None = None,
    finished: Bool[Array, " B"] | None = None,
    correct: Bool[Array, " B"] | None = None,
    logprobs: Float[Array, "B T"] | None = None,
    state: Int[Array, "B T"] | None = None,
    trained: Bool[Array, "B T"] | None = None,
    group: int = 1,
    weight: Mapping[str, Float[Array, ""]] | None = None,
) -> Credit:
    """Credits all N streams in one walk, each with its own baseline, γ, λ and horizon, and sums them.

    Args:
      streams: N of them; static under `jax.jit`.
      rewards: r_t of each stream, `[N, B, T]`.
      values: V_t of each stream's head, `[N, B, T]`; ignored for streams without a critic.
      mask: True on response tokens, `[B, T]`.
      step_end: True on each step's last token, `[B, T]`; a row's last masked token ends a step in any case.
      bootstrap: each head's value after the last masked token, `[N, B]` (0 if not given).
      turn_end: True on the last masked token of each turn; None: a response is one turn.
      scored: True on the tokens that carry a score of the stream, one of 0 included; None: on every step's end.
      first: for "progress": V(0) of each row; None: 0.
      outcome: for "progress": the value that replaces a finished response's last one; None: no replacement.
      finished: whether each response ended by itself; None: all did.
      correct: whether its answer is right, for `gate` and `pay`; a truncated response is neither right nor wrong.
      logprobs: of each token as it was sampled, for the unit "cut".
      state: for `among="state"`: equal numbers in a group are equal states before a token, from 0 to G·T − 1.
      trained: tokens that whitening runs over, within the mask; None: all of it.
      group: G, the responses to a problem, in consecutive rows; static. Comparing them takes 2 or more.
      weight: weights, by name, of streams, in place of their own `weight`.

    Raises:
      ValueError: a comparison in a group of one, `times` or `join` of no stream, a missing input that a stream needs.
    """
    chex.assert_rank(mask, 2)
    shape = (len(streams), *mask.shape)
    chex.assert_shape([rewards, values], shape)
    chex.assert_type([rewards, values], float)
    check_links(streams)
    for stream in streams:
        check_group(stream, group)
    empty = jnp.zeros(shape[:2], jnp.float32)
    bootstrap, first = (empty if x is None else x for x in (bootstrap, first))
    chex.assert_shape([bootstrap, first, empty if outcome is None else outcome], shape[:2])
    ends = mask & (step_end | last_of(mask))
    scored = jnp.broadcast_to(ends, shape) if scored is None else scored & mask
    chex.assert_shape(scored, shape)
    rows = Rows(mask, ends, finished, correct, state, group)
    factors = [boundary_factor(stream.horizon, step_end, turn_end) for stream in streams]
    units = [unit_ends(stream.of, mask, ends, turn_end, logprobs) for stream in streams]

    joined, scores = _joined(streams, rewards, scored, rows, weight or {})
    placed, bases = [], []
    for i, stream in enumerate(streams):
        worth = None if outcome is None else outcome[i]
        earned = _placed(stream, joined[i], scores[i], units[i], rows, first[i], worth)
        base = values[i]
        if stream.hold:
            earned, base = held(jnp.where(mask, earned, 0.0), base, mask, units[i])
        placed.append(earned)
        bases.append(base)
    walked, returns = _walk(streams, placed, bases, mask, factors, units, ends, bootstrap)
    compared = [
        minus_returns(stream, walked[i], scores[i], factors[i], units[i], rows)
        if stream.rule.compares and stream.rule.when == "return"
        else walked[i]
        for i, stream in enumerate(streams)
    ]
    advantages = jnp.stack(_paid(streams, compared, rows, mask if trained is None else mask & trained))
    return Credit(advantages=advantages, returns=returns, weight=_weighted(streams, advantages, weight or {}))


def _placed(
    stream: Stream,
    rewards: Float[Array, "B T"],
    scored: Bool[Array, "B T"],
    units: Bool[Array, "B T"],
    rows: Rows,
    first: Float[Array, " B"],
    outcome: Float[Array, " B"] | None,
) -> Float[Array, "B T"]:
    """What the walk finds of a stream on each token, less the means that are subtracted from scores."""
    start = first_of_others(outcome, rows) if stream.prompt_value == "others" else first
    replaced = outcome if stream.last == "outcome" else None
    earned = stream.rule.place(Scores(rewards, scored, rows.ends, start, replaced, rows.finished, rows.group))
    if stream.rule.compares and stream.rule.when == "score":
        return minus_scores(stream, earned, scored, units, rows)
    return earned


def _joined(
    streams: Sequence[Stream],
    rewards: Float[Array, "N B T"],
    scored: Bool[Array, "N B T"],
    rows: Rows,
    weight: Mapping[str, Float[Array, ""]],
) -> tuple[list[Float[Array, "B T"]], list[Bool[Array, "B T"]]]:
    """Rewards and scored tokens of each stream, those of other responses than its `gate` left out, `join`s added up."""
    found, places = [], []
    for i, stream in enumerate(streams):
        reward, place = rewards[i].astype(jnp.float32), scored[i]
        if stream.gate != "all":
            read = rows.judged(stream.gate)[:, None]
            reward, place = jnp.where(read, reward, 0.0), place & read
        found.append(reward)
        places.append(place)
    names = [stream.name for stream in streams]
    for i, stream in enumerate(streams):
        if stream.join:
            target = names.index(stream.join)
            found[target] = found[target] + weight.get(stream.name, stream.weight) * found[i]
            places[target] = places[target] | places[i]
            found[i], places[i] = jnp.zeros_like(found[i]), jnp.zeros_like(places[i])
    return found, places


def _walk(
    streams: Sequence[Stream],
    rewards: Sequence[Float[Array, "B T"]],
    values: Sequence[Float[Array, "B T"]],
    mask: Bool[Array, "B T"],
    factors: Sequence[Float[Array, "B T"]],
    units: Sequence[Bool[Array, "B T"]],
    ends: Bool[Array, "B T"],
    bootstrap: Float[Array, "N B"],
) -> tuple[Float[Array, "N B T"], Float[Array, "N B T"]]:
    """Advantages and returns of all streams in one walk; λ is 1 and there are no values where no critic stands.

    A sum so far is the same walk from the other end, over the row turned round.
    """
    critic = jnp.asarray([s.critic for s in streams])
    gamma = jnp.asarray([s.gamma for s in streams], jnp.float32)
    lam = jnp.asarray([s.lam if s.rule.critic else 1.0 for s in streams], jnp.float32)
    if any(s.of.kind != "token" or s.boundary_lam != 1.0 for s in streams):
        at_end = jnp.stack(units)
        crossing = [jnp.where(ends, s.boundary_lam, 1.0) for s in streams]
        gamma = jnp.where(at_end, gamma[:, None, None], 1.0)
        lam = jnp.where(at_end, lam[:, None, None], 1.0) * jnp.stack(crossing)

    back = [s.sum == "so_far" for s in streams]
    turned = [_turned(x, mask) if b else x for x, b in zip(factors, back, strict=True)]

    def oriented(arrays: Sequence[Array] | Array) -> Array:
        if not any(back):
            return arrays if isinstance(arrays, jax.Array) else jnp.stack(arrays)
        return jnp.stack([jnp.flip(x, -1) if b else x for x, b in zip(arrays, back, strict=True)])

    def walk(rewards, values, mask, factor, gamma, lam, bootstrap):
        return factored_gae(rewards, values, mask, factor, gamma=gamma, lam=lam, bootstrap=bootstrap)

    if gamma.ndim > 1:
        gamma = jnp.stack([_turned(x, mask) if b else x for x, b in zip(gamma, back, strict=True)])
        gamma, lam = oriented(gamma), oriented(lam)
    masks = oriented([mask] * len(streams)) if any(back) else mask
    predicted = jnp.where(critic[:, None, None], oriented(values), 0)
    bootstrap = jnp.where(critic[:, None], bootstrap, 0)
    axes = (0, 0, 0 if any(back) else None, 0, 0, 0, 0)
    found = jax.vmap(walk, in_axes=axes)(oriented(rewards), predicted, masks, oriented(turned), gamma, lam, bootstrap)
    return oriented(found[0]), oriented(found[1])


def _turned(factor: Float[Array, "B T"], mask: Bool[Array, "B T"]) -> Float[Array, "B T"]:
    """The factor between each masked token and the one before it, in the place of the one after it."""
    return before(factor, mask, jnp.ones(mask.shape[0]))


def _paid(
    streams: Sequence[Stream], found: Sequence[Float[Array, "B T"]], rows: Rows, trained: Bool[Array, "B T"]
) -> list[Float[Array, "B T"]]:
    """What becomes of the advantages after the walk and the statistics: factors, then what is paid, then whitening."""
    names, paid = [stream.name for stream in streams], []
    for i, stream in enumerate(streams):
        advantages = found[i] * found[names.index(stream.times)] if stream.times else found[i]
        if stream.pay in ("positive", "negative"):
            advantages = jnp.where((advantages > 0) == (stream.pay == "positive"), advantages, 0.0)
        elif stream.pay != "all":
            advantages = jnp.where(rows.judged(stream.pay)[:, None], advantages, 0.0)
        paid.append(whiten(advantages, trained) if stream.whiten else advantages)
    return paid


def _weighted(
    streams: Sequence[Stream], advantages: Float[Array, "N B T"], weight: Mapping[str, Float[Array, ""]]
) -> Float[Array, "B T"]:
    """Σ_i weight_i · A_i,t. A product and a sum, not a dot: accelerators round the inputs of a float32 dot."""
    weights = jnp.asarray([weight.get(s.name, s.weight) for s in streams], jnp.float32)
    return jnp.sum(weights[:, None, None] * advantages, axis=0)
