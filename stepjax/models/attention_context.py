"""Shared by the layers of one pass: positions of the tokens, which of them attend to each other, and the kernel."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from stepjax.models.attention import attend, causal_bias
from stepjax.models.blocks import LayerBlocks, attend_to_blocks
from stepjax.models.cache import KeyValues, attend_to_cache
from stepjax.models.config import DecoderConfig
from stepjax.models.cudnn import cudnn_attention
from stepjax.models.over_parts import gathered_columns, over_parts
from stepjax.models.query_chunks import chunked_attention, query_chunk
from stepjax.models.rope import Angles
from stepjax.models.splash import splash_attention

LayerKind = dict[str, Array]
"""How a layer differs from others, besides its weights: `window` and `rule` int32[], `local` bool[]; what all layers
have in common is left out and costs nothing."""

UNBOUNDED = 2**30
"""The window of a layer that attends to all of the past."""


def layer_kinds(config: DecoderConfig) -> LayerKind:
    """The kind of every layer, stacked for the layer scan."""
    windows = config.windows
    if len(set(windows)) < 2:
        return {}
    kinds: LayerKind = {"window": jnp.asarray([w or UNBOUNDED for w in windows], jnp.int32)}
    if config.attention == "splash":
        rules = sorted(set(windows))
        kinds["rule"] = jnp.asarray([rules.index(w) for w in windows], jnp.int32)
    if config.local_rope is not None:
        kinds["local"] = jnp.asarray([w > 0 for w in windows])
    return kinds


class AttentionContext:
    """Rotary angles and masks of one pass, made once; layers of several kinds choose by their `LayerKind`.

    Queries are the tokens of the pass. Keys are the same tokens, or (`keys_at`) the slots of a cache. Where rows are
    cut into `parts`, keys are those of all parts of the row, gathered in each layer.
    """

    def __init__(
        self,
        config: DecoderConfig,
        positions: Int[Array, "B T"],
        segments: Int[Array, "B T"],
        keys_at: tuple[Int[Array, "B S"], Int[Array, "B S"]] | None = None,
        parts: int = 1,
    ):
        self.config, self.positions, self.segments, self.parts = config, positions, segments, parts
        # The kernels are for self-attention of whole rows; a decode step attends to a cache.
        self.how = "xla" if keys_at is not None or positions.shape[1] == 1 else config.attention
        assert parts == 1 or keys_at is None, "a cache holds whole rows"
        windows = sorted(set(config.windows)) or [0]
        self.windows = windows
        self._local_rope = config.local_rope is not None and any(windows)
        whole = config.rope if not self._local_rope or 0 in windows else config.local_rope
        assert whole is not None
        self._angles = whole.angles(positions, config.head_dim)
        self._local = None
        if self._local_rope and 0 in windows:
            assert config.local_rope is not None
            self._local = config.local_rope.angles(positions, config.head_dim)
        if self.how == "splash":
            return
        key_positions, key_segments = gathered_columns((positions, segments), parts) if keys_at is None else keys_at
        self._columns = positions, segments, key_positions, key_segments
        here, keys = positions.shape[1], key_positions.shape[1]
        self._chunk = query_chunk(here, keys) if self.how == "xla" and keys_at is None else 0
        if self._chunk:
            return
        self._bias = causal_bias(positions, segments, key_positions, key_segments)
        self._distance = None
        if any(windows):
            self._distance = positions[:, :, None] - key_positions[:, None, :]
            if len(windows) == 1:
                self._bias = jnp.where(self._distance < windows[0], self._bias, -1e30)

    def angles(self, kind: LayerKind) -> Angles:
        """Cosines and sines of the rotary positions of a layer of this kind."""
        if self._local is None:
            return self._angles
        (cos, sin), (local_cos, local_sin) = self._angles, self._local
        return jnp.where(kind["local"], local_cos, cos), jnp.where(kind["local"], local_sin, sin)

    def attend(
        self, q: Float[Array, "B H T D"], k: Float[Array, "B K S D"], v: Float[Array, "B K S D"], kind: LayerKind
    ) -> Float[Array, "B H T D"]:
        """Attention of a layer of this kind."""
        c = self.config
        if self.how == "splash":
            rules = [self._splash(window) for window in self.windows]
            return rules[0](q, k, v) if len(rules) == 1 else jax.lax.switch(kind["rule"], rules, q, k, v)
        if self.how == "cudnn":
            look: Any = functools.partial(cudnn_attention, scale=c.query_scale)
            return over_parts(look, q, k, v, self._bias_of(kind) > -1.0, parts=self.parts)
        if self._chunk:
            look = functools.partial(chunked_attention, chunk=self._chunk, scale=c.query_scale, cap=c.attention_cap)
            return over_parts(look, q, k, v, *self._columns, *self._window_of(kind), parts=self.parts)
        look = functools.partial(attend, scale=c.query_scale, cap=c.attention_cap)
        return over_parts(look, q, k, v, self._bias_of(kind), parts=self.parts)

    def attend_cached(
        self, q: Float[Array, "B H T D"], stored: KeyValues, kind: LayerKind, blocks: LayerBlocks | None = None
    ) -> Float[Array, "B H T D"]:
        """The same, where the keys are the slots of a cache and, for one token a row, those of `blocks`."""
        c = self.config
        rest = None
        if blocks is not None:
            assert q.shape[2] == 1, "blocks are attended to by one token a row"
            window = kind.get("window", self.windows[0] or None)
            rest = functools.partial(
                attend_to_blocks, blocks, position=self.positions[:, 0], window=window, cap=c.attention_cap
            )
        return attend_to_cache(q, stored, self._bias_of(kind), scale=c.query_scale, cap=c.attention_cap, rest=rest)

    def _bias_of(self, kind: LayerKind) -> Float[Array, "B T S"]:
        if len(self.windows) == 1:
            return self._bias
        assert self._distance is not None
        return jnp.where(self._distance < kind["window"], self._bias, -1e30)

    def _window_of(self, kind: LayerKind) -> tuple[Int[Array, " B"], ...]:
        """The window, for each row; none where no layer has one."""
        if not any(self.windows):
            return ()
        window = kind["window"] if len(self.windows) > 1 else self.windows[0]
        return (jnp.full(self.positions.shape[0], window, jnp.int32),)

    def _splash(self, window: int):
        def look(q: Array, k: Array, v: Array) -> Array:
            c = self.config
            return splash_attention(
                q,
                k,
                v,
                self.segments,
                window=window,
                scale=c.query_scale,
                cap=c.attention_cap,
                parts=self.parts,
            )

        return look
