"""One layer of a decoder: normalisation, seven projections and the gated MLP; attention is between its halves."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from stepjax.models.config import DecoderConfig
from stepjax.models.lora import low_rank
from stepjax.models.rope import Angles, rotate
from stepjax.parallel import constrain

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "silu": jax.nn.silu,
    "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
}


def rms_norm(
    x: Float[Array, "... D"], scale: Float[Array, " D"], eps: float, offset: float = 0.0
) -> Float[Array, "... D"]:
    """x / √(mean of x² + eps) · (scale + offset), computed in float32."""
    y = x.astype(jnp.float32)
    y = y * jax.lax.rsqrt(jnp.mean(jnp.square(y), axis=-1, keepdims=True) + eps)
    scale = scale.astype(jnp.float32)
    return (y * (scale + offset if offset else scale)).astype(x.dtype)


FEW_ROWS = 3
"""Rows up to which a `transposed` weight is multiplied a row at a time."""


# Products are taken over flat rows: with one contracted dimension the backward pass needs no transposed copy. Weights
# that are `transposed` have their contracted dimensions last; only CPUs that decode have them so, and there a matrix is
# packed before several rows are multiplied, which for a few takes longer than to read it once for each. Over several
# devices the rows are divided: one at a time each would be sent to all of them.
def _matmul(x: Float[Array, "B T D"], w: Float[Array, "D F"], transposed: bool = False) -> Float[Array, "B T F"]:
    rows, over = x.reshape(-1, x.shape[-1]), 1 if transposed else 0
    if transposed and 1 < len(rows) <= FEW_ROWS and jax.sharding.get_abstract_mesh().size <= 1:
        y = jnp.stack([jax.lax.dot_general(w, row, (((1,), (0,)), ((), ()))) for row in rows])
    else:
        y = jax.lax.dot_general(rows, w, (((1,), (over,)), ((), ())))
    return y.reshape(*x.shape[:-1], w.shape[1 - over])


def _to_heads(x: Float[Array, "B T D"], w: Float[Array, "D H K"], transposed: bool = False) -> Float[Array, "B H T K"]:
    flat = w.reshape(-1, w.shape[-1]) if transposed else w.reshape(w.shape[0], -1)
    sizes = w.shape[:2] if transposed else w.shape[1:]
    return _matmul(x, flat, transposed).reshape(*x.shape[:-1], *sizes).swapaxes(1, 2)


def _from_heads(
    x: Float[Array, "B H T K"], w: Float[Array, "H K D"], transposed: bool = False
) -> Float[Array, "B T D"]:
    x = x.swapaxes(1, 2)
    flat = w.reshape(w.shape[0], -1) if transposed else w.reshape(-1, w.shape[-1])
    return _matmul(x.reshape(*x.shape[:2], -1), flat, transposed)


class Block:
    """One layer, given its slice of the stacked parameters, or what `Trunk.split_weights` made of it (`transposed`)."""

    def __init__(self, config: DecoderConfig, weights: dict[str, jax.Array], transposed: bool = False):
        self.config, self.transposed = config, transposed
        self.w = {k: (v if k.endswith("_norm") else v.astype(config.dtype)) for k, v in weights.items()}

    def _norm(self, name: str, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        return rms_norm(x, self.w[name], self.config.norm_eps, self.config.norm_offset)

    # The seven projections; `name` is that of the weight.

    def _to_heads(self, name: str, x: Float[Array, "B T D"]) -> Float[Array, "B H T K"]:
        out = _to_heads(x, self.w[name], self.transposed)
        if (added := low_rank(self.config.lora, self.w, name, _matmul, x, _to_heads)) is not None:
            out = out + added
        return out + self.w[f"{name}_bias"][:, None] if self.config.qkv_bias else out

    def _from_heads(self, name: str, x: Float[Array, "B H T K"]) -> Float[Array, "B T D"]:
        out = _from_heads(x, self.w[name], self.transposed)
        if (added := low_rank(self.config.lora, self.w, name, _from_heads, x, _matmul)) is not None:
            out = out + added
        return out + self.w[f"{name}_bias"] if self.config.output_bias else out

    def _dense(self, name: str, x: Float[Array, "B T D"]) -> Float[Array, "B T F"]:
        out = _matmul(x, self.w[name], self.transposed)
        if (added := low_rank(self.config.lora, self.w, name, _matmul, x)) is not None:
            out = out + added
        return out + self.w[f"{name}_bias"] if self.config.mlp_bias else out

    def project(
        self, x: Float[Array, "B T D"], angles: Angles
    ) -> tuple[Float[Array, "B H T K"], Float[Array, "B N T K"], Float[Array, "B N T K"]]:
        """Rotated queries, rotated keys, and values of the normalised input, head-major."""
        h = self._norm("attention_norm", x)
        q, k, v = (self._to_heads(name, h) for name in ("query", "key", "value"))
        if self.config.qk_norm:
            q, k = self._norm("query_norm", q), self._norm("key_norm", k)
        return rotate(q, angles), rotate(k, angles), v

    def finish(self, x: Float[Array, "B T D"], attended: Float[Array, "B H T K"]) -> Float[Array, "B T D"]:
        """Output projection and MLP, each added to the residual stream."""
        c = self.config
        h = self._from_heads("output", attended)
        x = x + (self._norm("attention_post_norm", h) if c.post_norms else h)
        h = self._norm("mlp_norm", x)
        h = ACTIVATIONS[c.activation](self._dense("gate", h)) * self._dense("up", h)
        h = self._dense("down", constrain(h, "batch", "time", "mlp"))
        x = x + (self._norm("mlp_post_norm", h) if c.post_norms else h)
        return constrain(x, "batch", "time", "width")
