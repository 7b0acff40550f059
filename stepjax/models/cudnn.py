"""cuDNN's flash attention on an NVIDIA GPU, through `jax.nn.dot_product_attention`."""

import jax
from jaxtyping import Array, Bool, Float

from stepjax.parallel import constrain


def cudnn_attention(
    queries: Float[Array, "B H T D"],
    keys: Float[Array, "B K T D"],
    values: Float[Array, "B K T D"],
    seen: Bool[Array, "B T T"],
    *,
    scale: float | None = None,
) -> Float[Array, "B H T D"]:
    """softmax(q·k · scale) v over the keys of each token's mask; sums in float32, inputs in bfloat16 or float16.

    `scale` is 1 / √D unless given. The kernel keeps no scores; `seen` (segments, windows) is one mask for all heads.
    """
    q, k, v = (x.swapaxes(1, 2) for x in (queries, keys, values))
    out = jax.nn.dot_product_attention(q, k, v, mask=seen[:, None], scale=scale, implementation="cudnn")
    return constrain(out.swapaxes(1, 2), "batch", "heads", "time", "head_dim")
