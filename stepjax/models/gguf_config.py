"""A GGUF file's metadata as the config.json of its family."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepjax.errors import UserError
from stepjax.models.config_fields import Fields
from stepjax.models.rope import Rope, RopeScaling

ROPE_FACTORS = "rope_freqs.weight"
"""The tensor with what the rotary frequencies are divided by (Llama 3.1 and later)."""

OUTPUT = "output"
"""The module of the output embedding, which a file has only where it is not the input's."""

LLAMA3 = (1.0, 4.0, 8192)
"""low_freq_factor, high_freq_factor and first context of every published model with `ROPE_FACTORS`."""

KNOWN = (
    *("block_count", "context_length", "embedding_length", "feed_forward_length", "vocab_size"),
    *("attention.head_count", "attention.head_count_kv", "attention.key_length", "attention.value_length"),
    *("attention.layer_norm_rms_epsilon", "attention.sliding_window", "attention.sliding_window_pattern"),
    *("attn_logit_softcapping", "final_logit_softcapping"),
    *("rope.dimension_count", "rope.freq_base", "rope.freq_base_swa"),
    *("rope.scaling.type", "rope.scaling.factor", "rope.scaling.original_context_length", "rope.scaling.finetuned"),
    *("rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow"),
)
"""Fields of an architecture that are read. Any other may change the computation, and is refused."""

NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "attention.causal": (True,),
    "expert_count": (0,),
    "expert_used_count": (0,),
    "tensor_data_layout": ("Meta AI original pth",),
}
"""Fields that are supported only with these values."""


@dataclass(frozen=True)
class Source:
    """What a config is made from.

    Attributes:
      read: the metadata.
      names: of the tensors.
      factors: the numbers of `ROPE_FACTORS`; None where there are none.
    """

    architecture: str
    read: Fields
    names: Collection[str]
    factors: np.ndarray | None

    def __call__(self, name: str, kind: type, default: Any = ...) -> Any:
        """The architecture's own field `name`."""
        return self.read(f"{self.architecture}.{name}", kind, default)

    @property
    def head_dim(self) -> int:
        stated = self("attention.key_length", int, None) or self("rope.dimension_count", int, None)
        return stated or self("embedding_length", int) // max(self("attention.head_count", int), 1)

    def only(self, name: str, *allowed: Any) -> None:
        """UserError where a field changes the computation in a way that the decoder does not have."""
        if self.read.values.get(f"{self.architecture}.{name}", allowed[0]) not in allowed:
            raise self.read.refuse(f"{self.architecture}.{name}", allowed)


@dataclass(frozen=True)
class Layout:
    """How the files of an architecture differ from the Hugging Face folders of its family.

    Attributes:
      model_type: the family.
      special: the family's fields of config.json that others lack.
      pairs: rows of query and key are in the order of rotary pairs.
      norm_offset: what is added to the norms.
    """

    model_type: str
    special: Callable[[Source], dict[str, Any]]
    pairs: bool = False
    norm_offset: float = 0.0


def config_of(source: Source, layout: Layout, rows: int) -> dict[str, Any]:
    """The config.json of a file whose embedding has so many rows; UserError where the metadata is not supported."""
    layers, width, heads = (source(n, int) for n in ("block_count", "embedding_length", "attention.head_count"))
    if min(layers, width, heads) < 1:
        raise UserError(f"{source.read.where}: block_count, embedding_length and head_count must be positive")
    for key in source.read.values:
        name = key.removeprefix(f"{source.architecture}.")
        if name != key and name not in KNOWN and name not in NEUTRAL:
            raise source.read.refuse(key)
    for name, allowed in NEUTRAL.items():
        source.only(name, *allowed)
    head_dim = source.head_dim
    source.only("attention.value_length", head_dim)
    source.only("rope.dimension_count", head_dim)
    ids = {f"{name}_token_id": source.read(f"tokenizer.ggml.{name}_token_id", int, None) for name in ("bos", "eos")}
    return {
        "model_type": layout.model_type,
        "vocab_size": rows,
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_key_value_heads": source("attention.head_count_kv", int, None) or heads,
        "head_dim": head_dim,
        "intermediate_size": source("feed_forward_length", int),
        "max_position_embeddings": source("context_length", int),
        "rms_norm_eps": source("attention.layer_norm_rms_epsilon", float),
        "tie_word_embeddings": f"{OUTPUT}.weight" not in source.names,
        "rope_theta": source("rope.freq_base", float, 10_000.0),
        **_rope_scaling(source),
        **ids,
        "pad_token_id": source.read("tokenizer.ggml.padding_token_id", int, None),
        **layout.special(source),
    }


def _rope_scaling(source: Source) -> dict[str, Any]:
    """`rope_scaling`, where there is one."""
    kind = source("rope.scaling.type", str, "none")
    if source.factors is not None:
        if kind != "none":
            raise UserError(f"{source.read.where}: {ROPE_FACTORS} beside rope scaling {kind!r} is not supported")
        return {"rope_scaling": _llama3(source)}
    if kind == "none":
        source.only("rope.scaling.factor", 0.0, 1.0)
        return {}
    scaling: dict[str, Any] = {"rope_type": kind, "factor": source("rope.scaling.factor", float)}
    if kind == "yarn":
        found = {
            "original_max_position_embeddings": source("rope.scaling.original_context_length", int, None),
            "beta_fast": source("rope.scaling.yarn_beta_fast", float, None),
            "beta_slow": source("rope.scaling.yarn_beta_slow", float, None),
        }
        scaling |= {name: value for name, value in found.items() if value is not None}
    return {"rope_scaling": scaling}


def _llama3(source: Source) -> dict[str, Any]:
    """The parameters of llama3 scaling that give the file's factors; UserError where none do."""
    assert source.factors is not None
    low, high, original = LLAMA3
    factor = float(source.factors.max(initial=1.0))
    theta = source("rope.freq_base", float, 10_000.0)
    plain = Rope(theta).frequencies(source.head_dim)
    found = plain / RopeScaling("llama3", factor, original, low, high).stretched(plain, theta)
    if source.factors.shape != plain.shape or not np.allclose(found, source.factors, rtol=1e-4):
        raise UserError(f"{source.read.where}: the factors of {ROPE_FACTORS} are not those of Llama 3.1's rope scaling")
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": low,
        "high_freq_factor": high,
        "original_max_position_embeddings": original,
    }


def _biased(source: Source, name: str) -> bool:
    return f"blk.0.{name}.bias" in source.names


def _llama(source: Source) -> dict[str, Any]:
    if window := source("attention.sliding_window", int, 0):
        return {"model_type": "mistral", "sliding_window": window}
    return {"attention_bias": _biased(source, "attn_q"), "mlp_bias": _biased(source, "ffn_gate")}


def _qwen2(source: Source) -> dict[str, Any]:
    source.only("attention.sliding_window", 0)
    return {"use_sliding_window": False}


def _qwen3(source: Source) -> dict[str, Any]:
    return {**_qwen2(source), "attention_bias": _biased(source, "attn_q")}


def _gemma(source: Source, largest: int, pattern: int) -> dict[str, Any]:
    """Fields of both; the largest model (known by its layers) scales queries by width / heads, the others by head."""
    layers, width, heads = (source(n, int) for n in ("block_count", "embedding_length", "attention.head_count"))
    field = "attention.sliding_window_pattern"
    stated = source.read.values.get(f"{source.architecture}.{field}", pattern)
    if type(stated) is int and stated > 0:
        stated = [bool((i + 1) % stated) for i in range(layers)]
    if type(stated) is not list or len(stated) != layers:
        raise source.read.refuse(f"{source.architecture}.{field}")
    found: dict[str, Any] = {
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": _biased(source, "attn_q"),
        "sliding_window": source("attention.sliding_window", int),
        "layer_types": ["sliding_attention" if window else "full_attention" for window in stated],
        "query_pre_attn_scalar": width // heads if layers == largest else source.head_dim,
    }
    for name in ("attn_logit_softcapping", "final_logit_softcapping"):
        if (cap := source(name, float, None)) is not None:
            found[name] = cap
    return found


def _gemma2(source: Source) -> dict[str, Any]:
    return _gemma(source, 46, 2)


def _gemma3(source: Source) -> dict[str, Any]:
    local = source("rope.freq_base_swa", float, 10_000.0)
    return {**_gemma(source, 62, 6), "rope_local_base_freq": local}


LAYOUTS: Mapping[str, Layout] = {
    "llama": Layout("llama", _llama, pairs=True),
    "qwen2": Layout("qwen2", _qwen2),
    "qwen3": Layout("qwen3", _qwen3),
    "gemma2": Layout("gemma2", _gemma2, norm_offset=1.0),
    "gemma3": Layout("gemma3_text", _gemma3, norm_offset=1.0),
}
"""By `general.architecture`; files of Mistral models have llama's."""
