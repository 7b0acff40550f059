"""Shapings in any order, as a stream's options name them: ("clip:0.5", "delta", "min_form:0.1", "bound:-1:1")."""

import math
from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from stepjax.errors import UserError, nearest
from stepjax.rewards.shaping import best_of, bound, clip, delta, early, min_form, share

Shape = Callable[..., Float[Array, "B S"]]
"""`(scores, mask, sizes) -> scores`, where `sizes` are the steps' tokens."""

VALUES: dict[str, tuple[str, ...]] = {
    "clip": ("ETA",),
    "delta": (),
    "min_form": ("TEMPERATURE",),
    "bound": ("LOW", "HIGH"),
    "best_of": ("K",),
    "early": (),
    "share": (),
}


def parse_shaping(text: str, where: str) -> Shape:
    """One shaping, from its text; `where` names the option in errors."""
    name, *given = (part.strip() for part in text.split(":"))
    if name not in VALUES:
        raise UserError(f"{where}: no shaping {name!r}{nearest(name, VALUES)}")
    form = ":".join((name, *VALUES[name]))
    try:
        values = [float(value) for value in given]
    except ValueError:
        raise UserError(f"{where}: {text!r} must be written {form}, with numbers") from None
    if len(values) != len(VALUES[name]) or not all(map(math.isfinite, values)):
        raise UserError(f"{where}: {text!r} must be written {form}, with finite numbers")
    match name:
        case "clip":
            return lambda scores, there, sizes: clip(scores, there, eta=values[0])
        case "delta":
            return lambda scores, there, sizes: delta(scores, there)
        case "early":
            return lambda scores, there, sizes: early(scores, there)
        case "share":
            return lambda scores, there, sizes: share(scores, there, sizes=sizes)
        case "best_of":
            if values[0] < 1:
                raise UserError(f"{where}: {text!r}: K must be 1 or more")
            return lambda scores, there, sizes: best_of(scores, there, count=values[0])
        case "min_form":
            if values[0] < 1e-30:  # smaller ones are 0 on some devices
                raise UserError(f"{where}: {text!r}: the temperature must be above 0 (1e-30 or more)")
            return lambda scores, there, sizes: min_form(scores, there, temperature=values[0])
    if values[0] > values[1]:
        raise UserError(f"{where}: {text!r}: the lower bound lies above the upper one")
    return lambda scores, there, sizes: bound(scores, there, low=values[0], high=values[1])


def shape_rewards(
    rewards: Float[Array, "B T"],
    there: Bool[Array, "B T"],
    shaping: Sequence[str],
    where: str = "shaping",
    *,
    sizes: Int[Array, "B T"] | None = None,
) -> Float[Array, "B T"]:
    """Shapes the scores that lie on the tokens `there`, in the order of `shaping`; they stay on their tokens.

    The shapings skip tokens that are not `there`, so that a row of tokens works like a row of steps: nothing has to be
    gathered, and no bound on the number of steps is needed. The result is float32, 0 elsewhere. `sizes`: the tokens of
    each token's step, which only `share` reads; None: one each.
    """
    if not shaping:
        return rewards
    shaped = jnp.where(there, rewards, 0).astype(jnp.float32)
    for text in shaping:
        shaped = parse_shaping(text, where)(shaped, there, jnp.ones_like(there, jnp.int32) if sizes is None else sizes)
    return shaped
