"""Families of open checkpoints: how each one's config.json describes a decoder, and the names of its tensors.

A new family is an entry of `FAMILIES`. A field or value that changes the computation in a way the decoder does not have
is refused, never ignored.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from stepjax.errors import UserError
from stepjax.models.config import DecoderConfig
from stepjax.models.config_fields import Fields
from stepjax.models.rope_config import read_ropes

ACTIVATION_NAMES = {
    "silu": "silu",
    "swish": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu": "gelu",
}

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "quantization_config": (None,),
    "partial_rotary_factor": (None, 1.0),
    "use_bidirectional_attention": (None, False),
    "is_causal": (True,),
    "num_experts": (None, 0),
    "num_local_experts": (None, 0),
    "is_encoder_decoder": (None, False),
}
"""Fields of any config.json that the decoder supports only with these values."""

LAYER = {
    "attention_norm": "input_layernorm",
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "output": "self_attn.o_proj",
    "query_norm": "self_attn.q_norm",
    "key_norm": "self_attn.k_norm",
    "mlp_norm": "post_attention_layernorm",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
"""Weights of a layer and their modules, as named by nearly all families."""

SANDWICH = {
    **LAYER,
    "attention_post_norm": "post_attention_layernorm",
    "mlp_norm": "pre_feedforward_layernorm",
    "mlp_post_norm": "post_feedforward_layernorm",
}
"""With norms after attention and MLP too."""


@dataclass(frozen=True)
class Family:
    """A kind of checkpoint.

    Attributes:
      model_type: of its config.json.
      architecture: class name that transformers loads it with.
      special: fields of `DecoderConfig` that other families lack.
      modules: of a layer's weights.
      head_dim: where config.json has no head_dim; 0: width / heads.
      activation: the field with the MLP's activation.
      tied: whether the embeddings are tied where config.json does not state it.
    """

    model_type: str
    architecture: str
    special: Callable[[Fields, int], dict[str, Any]]
    modules: Mapping[str, str] = field(default_factory=lambda: LAYER)
    head_dim: int = 0
    activation: str = "hidden_act"
    tied: bool = False

    def decoder(self, where: str, config: Mapping[str, Any]) -> DecoderConfig:
        """The decoder that a config.json describes; UserError where it cannot be built."""
        read = Fields(where, config)
        for name, allowed in NEUTRAL.items():
            if name in config and config[name] not in allowed:
                raise read.refuse(name, allowed)
        layers, width, heads = (read(n, int) for n in ("num_hidden_layers", "hidden_size", "num_attention_heads"))
        if min(layers, width, heads) < 1:
            raise UserError(f"{where}: num_hidden_layers, hidden_size and num_attention_heads must be positive")
        name = config.get(self.activation) or ("silu" if self.activation == "hidden_act" else "gelu_pytorch_tanh")
        if name not in ACTIVATION_NAMES:
            raise read.refuse(self.activation)
        special = self.special(read, layers)
        whole, local = read_ropes(read)
        if local is not None and not any(special.get("windows", ())):
            local = None
        for size in ("vocab_size", "intermediate_size"):
            if read(size, int) < 1:
                raise UserError(f"{where}: {size} must be positive")
        found = DecoderConfig(
            vocab=read("vocab_size", int),
            layers=layers,
            width=width,
            heads=heads,
            kv_heads=read("num_key_value_heads", int, None) or heads,
            head_dim=read("head_dim", int, None) or self.head_dim or width // heads,
            mlp=read("intermediate_size", int),
            rope_theta=whole.theta,
            rope_scaling=whole.scaling,
            local_rope=None if local == whole else local,
            norm_eps=read("rms_norm_eps", float, 1e-6),
            tied=read("tie_word_embeddings", bool, self.tied),
            activation=ACTIVATION_NAMES[name],
            **special,
        )
        if found.heads % found.kv_heads or found.head_dim % 2:
            raise UserError(
                f"{where}: {found.heads} heads over {found.kv_heads} key heads of size {found.head_dim} do not go "
                "together (heads must be a multiple of the key heads, and their size even)"
            )
        return found


def _windows(read: Fields, layers: int, default: Callable[[int], bool], size: int | None) -> tuple[int, ...]:
    """The window of each layer: by `layer_types`, else by `default` (whether a layer has one)."""
    kinds = read("layer_types", list, None)
    if kinds is None:
        sliding = [default(i) for i in range(layers)]
    else:
        if len(kinds) != layers or not set(map(str, kinds)) <= {"sliding_attention", "full_attention"}:
            raise UserError(f"{read.where}: layer_types must name sliding_attention or full_attention, once a layer")
        sliding = [kind == "sliding_attention" for kind in kinds]
    if not any(sliding):
        return ()
    if size is None:
        raise UserError(f"{read.where}: layers have a sliding window (layer_types), but sliding_window names none")
    return tuple(size if s else 0 for s in sliding)


def _window(read: Fields) -> int | None:
    """`sliding_window`, which is 4096 where it is not named and nothing where it is null."""
    return read("sliding_window", int, None) if "sliding_window" in read.values else 4096


def _qwen(read: Fields, layers: int) -> dict[str, Any]:
    size = _window(read) if read("use_sliding_window", bool, False) else None
    first = read("max_window_layers", int, 28)
    return {"windows": _windows(read, layers, lambda i: size is not None and i >= first, size)}


def _qwen2(read: Fields, layers: int) -> dict[str, Any]:
    return {"qkv_bias": True, **_qwen(read, layers)}


def _qwen3(read: Fields, layers: int) -> dict[str, Any]:
    bias = read("attention_bias", bool, False)
    return {"qk_norm": True, "qkv_bias": bias, "output_bias": bias, **_qwen(read, layers)}


def _llama(read: Fields, layers: int) -> dict[str, Any]:
    bias = read("attention_bias", bool, False)
    return {"qkv_bias": bias, "output_bias": bias, "mlp_bias": read("mlp_bias", bool, False)}


def _mistral(read: Fields, layers: int) -> dict[str, Any]:
    if read("layer_types", list, None):
        raise read.refuse("layer_types")
    size = _window(read)
    return {"windows": (size,) * layers if size else ()}


def _gemma(read: Fields, layers: int, *, caps: tuple[float, float], every: int) -> dict[str, Any]:
    bias = read("attention_bias", bool, False)
    logit, attention = (
        read(name, float, None) if name in read.values else default
        for name, default in zip(("final_logit_softcapping", "attn_logit_softcapping"), caps, strict=True)
    )
    size = _window(read)
    return {
        "norm_offset": 1.0,
        "post_norms": True,
        "embed_scale": read("hidden_size", int) ** 0.5,
        "query_scale": read("query_pre_attn_scalar", float, 256.0) ** -0.5,
        "logit_cap": logit or 0.0,
        "attention_cap": attention or 0.0,
        "qkv_bias": bias,
        "output_bias": bias,
        "windows": _windows(read, layers, lambda i: bool((i + 1) % every), size),
    }


def _gemma2(read: Fields, layers: int) -> dict[str, Any]:
    return _gemma(read, layers, caps=(30.0, 50.0), every=2)


def _gemma3(read: Fields, layers: int) -> dict[str, Any]:
    every = read("sliding_window_pattern", int, None) or 6
    found = _gemma(read, layers, caps=(0.0, 0.0), every=every)
    # Its attention never reads attn_logit_softcapping.
    return {**found, "qk_norm": True, "attention_cap": 0.0}


FAMILIES: dict[str, Family] = {
    family.model_type: family
    for family in (
        Family("qwen2", "Qwen2ForCausalLM", _qwen2),
        Family("qwen3", "Qwen3ForCausalLM", _qwen3, head_dim=128),
        Family("llama", "LlamaForCausalLM", _llama),
        Family("mistral", "MistralForCausalLM", _mistral),
        Family("gemma2", "Gemma2ForCausalLM", _gemma2, SANDWICH, 256, "hidden_activation", True),
        Family("gemma3_text", "Gemma3ForCausalLM", _gemma3, SANDWICH, 256, "hidden_activation", True),
    )
}


def family_of(where: str, config: Mapping[str, Any]) -> Family:
    """The family of a config.json; UserError where it is none of them."""
    found = FAMILIES.get(str(config.get("model_type")))
    if found is None:
        name = str(config.get("model_type"))[:60]
        raise UserError(f"{where}: model_type {name!r} is not supported (there are: {', '.join(FAMILIES)})")
    return found


def describe(decoder: DecoderConfig, *, positions: int = 32768) -> dict[str, Any]:
    """A config.json for a decoder that was trained from scratch: the plainest family that has its parts."""
    assert not (decoder.norm_offset or decoder.windows or decoder.rope_scaling), (
        "its checkpoint's own config describes it"
    )
    if decoder.qk_norm:
        family, extra = FAMILIES["qwen3"], {"attention_bias": decoder.qkv_bias}
    elif decoder.qkv_bias:
        family, extra = FAMILIES["qwen2"], {}
    else:
        family, extra = FAMILIES["llama"], {"attention_bias": False, "mlp_bias": False}
    return {
        "model_type": family.model_type,
        "architectures": [family.architecture],
        "vocab_size": decoder.entries or decoder.vocab,
        "num_hidden_layers": decoder.layers,
        "hidden_size": decoder.width,
        "num_attention_heads": decoder.heads,
        "num_key_value_heads": decoder.kv_heads,
        "head_dim": decoder.head_dim,
        "intermediate_size": decoder.mlp,
        "hidden_act": "silu",
        "rope_theta": decoder.rope_theta,
        "max_position_embeddings": positions,
        "rms_norm_eps": decoder.norm_eps,
        "tie_word_embeddings": decoder.tied,
        **extra,
    }
