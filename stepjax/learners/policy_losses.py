"""The policy's loss of a run: which ratio, of what, and what bounds it. A new loss is a row of `LOSSES`."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from stepjax.config import PPOOptions
from stepjax.credit.units import unit_starts
from stepjax.errors import UserError
from stepjax.learners.losses import cispo, dppo, ppo_clip, reinforce, sapo
from stepjax.learners.packing import PackedRows
from stepjax.row_parts import cut, joined
from stepjax.trajectory import Trajectory


@dataclasses.dataclass(frozen=True)
class Tokens:
    """What a loss reads of each token, float32 `[R, L]`.

    Attributes:
      logprobs, old: log-probabilities under the new and the old policy, of the token, or such that their difference is
        the log-ratio of its turn or sequence.
      own: logπ of the token itself.
      weight: its policy weight, A_t.
      mask: True on tokens that count.
    """

    logprobs: Float[Array, "R L"]
    old: Float[Array, "R L"]
    own: Float[Array, "R L"]
    weight: Float[Array, "R L"]
    mask: Bool[Array, "R L"]


Losses = tuple[Float[Array, "R L"], dict[str, Array]]


@dataclasses.dataclass(frozen=True)
class Loss:
    """A kind of policy loss.

    Attributes:
      of: `(options, tokens) -> (loss of each token, {"ratio", "clipped"})`.
      ratios: values of `ppo.ratio` that it has a use for.
      options: options of `config.ppo` that only this loss (and others that name them too) reads.
    """

    of: Callable[[PPOOptions, Tokens], Losses]
    ratios: tuple[str, ...] = ("token", "turn", "sequence")
    options: tuple[str, ...] = ()


def _clipped(options: PPOOptions, x: Tokens) -> Losses:
    bounds = {"clip_low": options.clip_low, "clip_high": options.clip_high, "dual_clip": options.dual_clip or None}
    return ppo_clip(x.logprobs, x.old, x.weight, **bounds, mask=x.mask)


def _reinforce(options: PPOOptions, x: Tokens) -> Losses:
    """The ratio is still watched."""
    _, aux = _clipped(options, x)
    return reinforce(x.own, x.weight, mask=x.mask), aux | {"clipped": jnp.zeros_like(x.mask)}


def _cispo(options: PPOOptions, x: Tokens) -> Losses:
    bounds = {"clip_low": options.clip_low, "clip_high": options.clip_high}
    return cispo(x.logprobs, x.old, x.weight, **bounds, own_logprobs=x.own, mask=x.mask)


def _sapo(options: PPOOptions, x: Tokens) -> Losses:
    return sapo(x.logprobs, x.old, x.weight, rise=options.sapo_rise, fall=options.sapo_fall, mask=x.mask)


def _dppo(options: PPOOptions, x: Tokens) -> Losses:
    return dppo(x.logprobs, x.old, x.weight, clip_low=options.clip_low, clip_high=options.clip_high, mask=x.mask)


CLIP = ("clip_low", "clip_high")

LOSSES: dict[str, Loss] = {
    "ppo": Loss(_clipped, options=(*CLIP, "dual_clip")),
    "reinforce": Loss(_reinforce, ratios=("token",), options=(*CLIP, "dual_clip")),
    "cispo": Loss(_cispo, options=CLIP),
    "sapo": Loss(_sapo, options=("sapo_rise", "sapo_fall")),
    "dppo": Loss(_dppo, ratios=("token",), options=CLIP),
}


def check_loss(options: PPOOptions) -> None:
    """UserError where options of the policy's loss contradict each other."""
    loss = LOSSES[options.loss]
    if options.ratio not in loss.ratios:
        raise UserError(
            f"config.ppo.ratio={options.ratio}: loss={options.loss} bounds each token by itself; use ratio=token, or "
            f"loss {' or '.join(name for name, row in LOSSES.items() if options.ratio in row.ratios)}"
        )
    default = PPOOptions()
    for name in sorted({name for row in LOSSES.values() for name in row.options}):
        if name not in loss.options and getattr(options, name) != getattr(default, name):
            readers = [known for known, row in LOSSES.items() if name in row.options]
            raise UserError(f"config.ppo.{name}: only loss {' or '.join(readers)} reads it, not {options.loss}")


def ratio_starts(options: PPOOptions, rows: Trajectory) -> Bool[Array, "B T"] | None:
    """True on the first token of each turn or response that has one ratio; None: each token has its own."""
    if options.ratio == "token":
        return None
    mask = rows.mask
    last = mask & (rows.columns == jnp.max(jnp.where(mask, rows.columns, -1), axis=1, keepdims=True))
    ends = last if options.ratio == "sequence" or rows.turn_end is None else rows.turn_end | last
    return unit_starts(ends, mask)


def policy_losses(options: PPOOptions, logprobs: Float[Array, "R L"], batch: PackedRows) -> Losses:
    """The loss of each token of a micro-batch, 0 outside its mask; `{"ratio", "clipped"}` of each."""
    old, weight, mask = batch.columns["old_logprobs"], batch.columns["policy_weight"], batch.mask
    tokens = Tokens(logprobs, old, logprobs, weight, mask)
    if "ratio_start" in batch.columns:
        ratio = jnp.where(mask, logprobs - old, 0.0)
        # Responses lie whole in a packed row and each begins a unit: the count of beginnings names the unit.
        starts = joined(jnp.where(mask, batch.columns["ratio_start"], 0.0) > 0, batch.parts)
        unit = cut(jnp.cumsum(starts, axis=1, dtype=jnp.int32), batch.parts)
        of_units = pooled(ratio, unit, batch, mean=options.ratio == "sequence")
        # The difference of these two is the pooled log-ratio.
        tokens = dataclasses.replace(tokens, logprobs=of_units, old=jnp.zeros_like(of_units))
    return LOSSES[options.loss].of(options, tokens)


def pooled(
    log_ratio: Float[Array, "R L"], unit: Int[Array, "R L"], batch: PackedRows, *, mean: bool
) -> Float[Array, "R L"]:
    """`pool` over units that may lie in several parts of a row: numbers a token are brought together."""
    whole = (joined(x, batch.parts) for x in (log_ratio, unit, batch.mask))
    return cut(pool(*whole, mean=mean), batch.parts)


def pool(
    log_ratio: Float[Array, "R L"], unit: Int[Array, "R L"], mask: Bool[Array, "R L"], *, mean: bool
) -> Float[Array, "R L"]:
    """The sum (or `mean`) of the masked tokens' log-ratios over each unit of a packed row, on each of its tokens.

    The ratio of a turn is the product of its tokens' [Turn-PPO 2512.17008], that of a sequence their geometric mean
    [GSPO 2507.18071].
    """
    zeros = jnp.zeros(mask.shape[1] + 1, jnp.float32)

    def sums(x: Float[Array, "R L"]) -> Float[Array, "R L"]:
        return jax.vmap(lambda x, unit: zeros.at[unit].add(x)[unit])(jnp.where(mask, x, 0.0), unit)

    total = sums(log_ratio.astype(jnp.float32))
    if mean:
        total = total / jnp.maximum(sums(jnp.ones_like(total)), 1.0)
    return jnp.where(mask, total, 0.0)
