"""The masked tokens before and after each token, over any tokens between them."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def last_of(places: Bool[Array, "B T"]) -> Bool[Array, "B T"]:
    """True on each row's last True."""
    later = jax.lax.cummax(places.astype(jnp.int32), axis=1, reverse=True)
    return places & (jnp.pad(later, ((0, 0), (0, 1)))[:, 1:] == 0)


def before(x: Float[Array, "B T"], places: Bool[Array, "B T"], first: Float[Array, " B"]) -> Float[Array, "B T"]:
    """The value of `x` at the last of `places` before each token; `first` where there is none."""
    columns = jnp.where(places, jnp.arange(1, x.shape[1] + 1), 0)
    column = jnp.pad(jax.lax.cummax(columns, axis=1), ((0, 0), (1, 0)))[:, :-1]
    return jnp.take_along_axis(jnp.concatenate([first[:, None], x], axis=1), column, axis=1)
