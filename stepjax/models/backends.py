"""Which attention, and which layout of the layers while decoding, a decoder uses on a mesh's devices."""

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from stepjax.errors import UserError
from stepjax.models.config import DecoderConfig

CUDNN_LARGEST_HEAD = 128


def platform_in_context() -> str:
    """Of the devices that a function is traced for: those of the mesh in context, else JAX's default ones."""
    mesh = jax.sharding.get_abstract_mesh()
    device = None if mesh.empty else mesh.abstract_device
    return jax.default_backend() if device is None else device.platform


def decodes_apart(config: DecoderConfig) -> bool:
    """Whether a decode loop takes the layers apart, where nothing says so by JAX's default backend."""
    return suits_apart(jax.default_backend()) if config.decode_apart is None else config.decode_apart


def gathers_reads() -> bool:
    """Whether passes gather the positions whose logits are read, on the devices that a function is traced for.

    For a TPU such a loop is planned to hold the output matrix's gradient twice more and to move a third more bytes.
    """
    return platform_in_context() == "cpu"


def suits_apart(platform: str) -> bool:
    """Whether a platform decodes faster with the layers apart.

    A CPU copies a layer's weights and cache out of stacked ones in each step, which can cost several times the step
    itself. On a TPU both are planned to read the same bytes, and scanned layers compile an order of magnitude faster;
    on GPUs, where it is not measured, that decides, too.
    """
    return platform == "cpu"


def choose_attention(asked: str, config: DecoderConfig, mesh: Mesh) -> str:
    """`auto` is splash on TPU, cuDNN on an NVIDIA GPU where it has what the decoder needs, XLA elsewhere.

    Raises:
      UserError: the kernel does not run on these devices, or not for this decoder.
    """
    platform = mesh.devices.flat[0].platform
    reason = _cudnn_lacks(config)
    if asked == "auto":
        if platform == "tpu":
            return "splash"
        return "cudnn" if platform in ("gpu", "cuda") and reason is None else "xla"
    if asked == "splash" and platform != "tpu":
        raise UserError(f"config.model.attention=splash: it runs on TPU, not on {platform}; use auto or xla")
    if asked == "cudnn":
        reason = reason if platform in ("gpu", "cuda") else f"it runs on NVIDIA GPUs, not on {platform}"
        if reason is not None:
            raise UserError(f"config.model.attention=cudnn: {reason}; use auto or xla")
    return asked


def _cudnn_lacks(config: DecoderConfig) -> str | None:
    """Why cuDNN's flash attention does not support a decoder; None where it does."""
    if jnp.dtype(config.dtype).itemsize != 2:
        return f"it computes in bfloat16, not in {jnp.dtype(config.dtype).name}"
    if config.attention_cap:
        return "it has no soft cap on the scores, which this decoder needs"
    if config.head_dim % 8 or config.head_dim > CUDNN_LARGEST_HEAD:
        return f"heads must be a multiple of 8 and at most {CUDNN_LARGEST_HEAD} wide, not {config.head_dim}"
    return None
