"""How the next token is drawn: a frozen strategy with one method, and a random key a row."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray


@dataclass(frozen=True)
class Sampler:
    """Temperature sampling; temperature 0 takes the likeliest token.

    A row's token depends on its own key alone, never on the batch around it: the same problem and seed give the same
    response in any batch and on any mesh.
    """

    temperature: float = 1.0

    def __call__(self, keys: PRNGKeyArray, logits: Float[Array, "B V"]) -> tuple[Int[Array, " B"], Float[Array, " B"]]:
        """The drawn tokens and their log-probability under the distribution that they were drawn from.

        Greedy tokens report the log-probability at temperature 1 (their own distribution has no spread).
        """
        scaled = logits if self.temperature == 0 else logits / self.temperature
        if self.temperature == 0:
            tokens = jnp.argmax(logits, axis=-1)
        else:
            tokens = jax.vmap(jax.random.categorical)(keys, scaled)
        logprobs = jnp.take_along_axis(scaled, tokens[:, None], axis=-1)[:, 0] - jax.nn.logsumexp(scaled, axis=-1)
        return tokens.astype(jnp.int32), logprobs


def row_keys(key: PRNGKeyArray, ids: Int[Array, " B"]) -> PRNGKeyArray:
    """One key a row from the row's own number (problem × samples + sample, say)."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(ids)
