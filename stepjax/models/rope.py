"""Rotary positions: their frequencies, plain or scaled to a longer context, and the rotation itself."""

import math
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

Angles = tuple[Float[Array, "B 1 T h"], Float[Array, "B 1 T h"]]
"""Cosines and sines, h = head_dim / 2."""


@dataclass(frozen=True)
class RopeScaling:
    """Scaling of the frequencies from the context of the first training.

    Attributes:
      kind: "linear" [Chen 2023], "llama3" (long wavelengths only, as in Llama 3.1) or "yarn" [Peng 2023].
      factor: longer context / first context.
      original: tokens of the first context (llama3, yarn).
      low_freq_factor, high_freq_factor: llama3: `original` over the wavelengths between which the stretch sets in.
      beta_fast, beta_slow: yarn: full turns within `original` between which the stretch sets in.
      truncate: yarn: round those bounds to whole dimensions.
      magnitude: yarn: factor of cosines and sines.
    """

    kind: str
    factor: float
    original: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    magnitude: float = 1.0

    def stretched(self, frequency: Float[np.ndarray, " h"], theta: float) -> Float[np.ndarray, " h"]:
        """The scaled frequencies, float32, computed in float32 as the published checkpoints expect them."""
        return {"linear": self._linear, "llama3": self._llama3, "yarn": self._yarn}[self.kind](frequency, theta)

    def _linear(self, frequency: np.ndarray, theta: float) -> np.ndarray:
        return frequency / np.float32(self.factor)

    def _llama3(self, frequency: np.ndarray, theta: float) -> np.ndarray:
        wavelength = np.float32(2 * math.pi) / frequency
        smooth = (self.original / wavelength - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        between = (1 - smooth) * frequency / self.factor + smooth * frequency
        long = wavelength > self.original / self.low_freq_factor
        short = wavelength < self.original / self.high_freq_factor
        return np.where(long, frequency / self.factor, np.where(short, frequency, between)).astype(np.float32)

    def _yarn(self, frequency: np.ndarray, theta: float) -> np.ndarray:
        dim = 2 * len(frequency)

        def dimension(turns: float) -> float:
            return dim * math.log(self.original / (turns * 2 * math.pi)) / (2 * math.log(theta))

        low, high = dimension(self.beta_fast), dimension(self.beta_slow)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, dim - 1)
        ramp = (np.arange(dim // 2, dtype=np.float32) - low) / ((high - low) or 0.001)
        stretch = np.clip(ramp, 0, 1).astype(np.float32)
        return (frequency / np.float32(self.factor) * stretch + frequency * (1 - stretch)).astype(np.float32)


@dataclass(frozen=True)
class Rope:
    """Rotary positions of a kind of layer."""

    theta: float = 10_000.0
    scaling: RopeScaling | None = None

    def frequencies(self, head_dim: int) -> Float[np.ndarray, " h"]:
        """The frequencies before scaling, float32, computed in float32."""
        exponent = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
        return (1.0 / np.float32(self.theta) ** exponent).astype(np.float32)

    def angles(self, positions: Int[Array, "B T"], head_dim: int) -> Angles:
        """Cosines and sines of all positions, float32; once for all layers."""
        half = head_dim // 2
        if self.scaling is None:
            frequency = self.theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
        else:
            frequency = jnp.asarray(self.scaling.stretched(self.frequencies(head_dim), self.theta))
        angle = positions[:, None, :, None].astype(jnp.float32) * frequency
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        if self.scaling is not None and self.scaling.magnitude != 1.0:
            cos, sin = cos * self.scaling.magnitude, sin * self.scaling.magnitude
        return cos, sin


def rotate(x: Float[Array, "B H T D"], angles: Angles) -> Float[Array, "B H T D"]:
    """Rotary position embedding in the halves convention of Llama and Qwen."""
    cos, sin = angles
    half = x.shape[-1] // 2
    a, b = x[..., :half].astype(jnp.float32), x[..., half:].astype(jnp.float32)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)


def yarn_magnitude(factor: float, mscale: float | None = None, mscale_all_dim: float | None = None) -> float:
    """The factor of cosines and sines that YaRN derives where a config names none [Peng 2023, eq. 22]."""

    def scale(m: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * m * math.log(factor) + 1.0

    return scale(mscale) / scale(mscale_all_dim) if mscale and mscale_all_dim else scale(1.0)


SCALINGS = ("linear", "llama3", "yarn")
"""Kinds that `RopeScaling` knows."""
