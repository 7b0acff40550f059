"""Values over padded rows, as the equations say: what the packed passes are held against."""

import jax.numpy as jnp


def token_values(critic, rows):
    """Values of the state before each response token, [B, N, T], and after a truncated response, [B, N]."""
    after = critic(rows.tokens, rows.positions, rows.segments).swapaxes(1, 2)
    before = jnp.pad(after[:, :, :-1], ((0, 0), (0, 0), (1, 0)))
    values = jnp.where(rows.mask[:, None], before, 0.0)
    last = jnp.take_along_axis(after, rows.last[:, None, None], axis=2)[:, :, 0]
    return values, jnp.where(rows.finished[:, None], 0.0, last)
