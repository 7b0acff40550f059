"""GGUF files of tiny models, written with the library `gguf` from a family's checkpoint as llama.cpp converts it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from models.family_cases import draw, tensor_shapes

ARCHITECTURES = {"mistral": "llama", "gemma3_text": "gemma3"}
"""Of the families that are not named alike."""

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}

SIZES = {
    "vocab_size": 61,
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 64,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GEMMA = {**SIZES, "num_hidden_layers": 7, "query_pre_attn_scalar": 16, "tie_word_embeddings": True}

CASES: dict[str, dict[str, Any]] = {
    "llama": {**SIZES, "model_type": "llama", "rope_theta": 5e5, "rope_scaling": LLAMA3, "tie_word_embeddings": False},
    "llama-biases": {**SIZES, "model_type": "llama", "attention_bias": True, "mlp_bias": True},
    "llama-linear": {**SIZES, "model_type": "llama", "rope_scaling": {"rope_type": "linear", "factor": 4.0}},
    "mistral-window": {**SIZES, "model_type": "mistral", "sliding_window": 6, "num_key_value_heads": 4},
    "qwen2": {
        **SIZES, "model_type": "qwen2", "tie_word_embeddings": True, "rope_theta": 1e6,
        "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
    },
    "qwen3": {**SIZES, "model_type": "qwen3", "tie_word_embeddings": False, "rope_theta": 1e6},
    "gemma2": {
        **GEMMA, "model_type": "gemma2", "sliding_window": 6, "attn_logit_softcapping": 40.0,
        "final_logit_softcapping": 20.0,
    },
    "gemma3": {
        **GEMMA, "model_type": "gemma3_text", "sliding_window": 6, "rope_theta": 1e6, "rope_local_base_freq": 10000.0,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    },
}  # fmt: skip
"""What llama.cpp has files of, each with what is special in its family."""


def write_gguf(
    path: Path,
    case: dict[str, Any],
    packing: str = "F32",
    *,
    metadata: Mapping[str, Any] | None = None,
    extra: Mapping[str, np.ndarray] | None = None,
    parts: int = 0,
    tokens: bool = True,
) -> Path:
    """A file of a case's weights, matrices packed as `packing`.

    Args:
      metadata: more of it, or other values; a value None leaves a key out.
      extra: tensors besides the model's.
      parts: tensors a file, where the model is split.
      tokens: whether it has a vocabulary (without merges).
    """
    architecture = ARCHITECTURES.get(case["model_type"], case["model_type"])
    writer = gguf.GGUFWriter(str(path), architecture, split_max_tensors=parts)
    fields = _fields(case, architecture)
    if tokens:
        fields["tokenizer.ggml.tokens"] = [f"t{i}" for i in range(case["vocab_size"])]
    for key, value in {**fields, **(metadata or {})}.items():
        if value is not None:
            _add(writer, key, value)
    names = gguf.get_tensor_name_map(
        {v: k for k, v in gguf.MODEL_ARCH_NAMES.items()}[architecture], case["num_hidden_layers"]
    )
    for name, shape in tensor_shapes(case).items():
        module, end = name.rsplit(".", 1)
        value = _converted(name, draw(name, shape, case), case, architecture)
        _add_tensor(writer, f"{names.get_name(module)}.{end}", value, packing if value.ndim == 2 else "F32")
    if (scaling := case.get("rope_scaling", {})).get("rope_type") == "llama3":
        writer.add_tensor("rope_freqs.weight", rope_factors(case, scaling))
    for name, value in (extra or {}).items():
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _fields(case: dict[str, Any], architecture: str) -> dict[str, Any]:
    scaling = case.get("rope_scaling", {})
    named = {
        "block_count": case["num_hidden_layers"],
        "context_length": case["max_position_embeddings"],
        "embedding_length": case["hidden_size"],
        "feed_forward_length": case["intermediate_size"],
        "attention.head_count": case["num_attention_heads"],
        "attention.head_count_kv": case["num_key_value_heads"],
        "attention.key_length": case["head_dim"],
        "attention.value_length": case["head_dim"],
        "attention.layer_norm_rms_epsilon": case["rms_norm_eps"],
        "attention.sliding_window": case.get("sliding_window"),
        "rope.freq_base": case.get("rope_theta"),
        "rope.dimension_count": case["head_dim"] if architecture == "llama" else None,
        "attn_logit_softcapping": case.get("attn_logit_softcapping"),
        "final_logit_softcapping": case.get("final_logit_softcapping"),
    }
    if scaling.get("rope_type") in ("linear", "yarn"):
        named |= {"rope.scaling.type": scaling["rope_type"], "rope.scaling.factor": scaling["factor"]}
        named["rope.scaling.original_context_length"] = scaling.get("original_max_position_embeddings")
    found = {f"{architecture}.{name}": value for name, value in named.items()}
    ids = {f"tokenizer.ggml.{name}_token_id": case[f"{name}_token_id"] for name in ("bos", "eos")}
    return {**found, **ids}


def _add(writer: Any, key: str, value: Any) -> None:
    kinds = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
    kinds.get(type(value), writer.add_array)(key, value)


def _converted(name: str, value: np.ndarray, case: dict[str, Any], architecture: str) -> np.ndarray:
    """As llama.cpp stores it: rows of Llama's queries and keys in pairs, Gemma's norms around 1."""
    if architecture == "llama" and ("q_proj" in name or "k_proj" in name):
        heads = case["num_attention_heads" if "q_proj" in name else "num_key_value_heads"]
        halves = value.reshape(heads, 2, len(value) // heads // 2, *value.shape[1:])
        return halves.swapaxes(1, 2).reshape(value.shape)
    return value + np.float32(1) if architecture.startswith("gemma") and name.endswith("norm.weight") else value


def _add_tensor(writer: Any, name: str, value: np.ndarray, packing: str) -> None:
    kind = gguf.GGMLQuantizationType[packing]
    if packing == "F32":
        writer.add_tensor(name, value)
    elif packing == "F16":
        writer.add_tensor(name, value.astype(np.float16))
    else:
        packed = blocks_of_q4_k(name, value.shape) if packing == "Q4_K" else gguf.quantize(value, kind)
        writer.add_tensor(name, packed, raw_dtype=kind)


def blocks_of_q4_k(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Random blocks, which the library can unpack but not make: two float16 scales, 12 bytes of scales, 128 of numbers.

    uint8[rows, bytes]
    """
    random = np.random.default_rng(len(name) * 1000 + shape[0])
    blocks = shape[0] * shape[1] // 256
    scales = random.uniform(1e-3, 1e-2, (blocks, 2)).astype(np.float16).view(np.uint8)
    rest = random.integers(0, 256, (blocks, 140), np.uint8)
    return np.concatenate([scales, rest], axis=1).reshape(shape[0], -1)


def rope_factors(case: dict[str, Any], scaling: dict[str, Any]) -> np.ndarray:
    """What llama.cpp divides each rotary frequency by, in a loop as its converter has it."""
    found = []
    low = scaling["original_max_position_embeddings"] / scaling["low_freq_factor"]
    high = scaling["original_max_position_embeddings"] / scaling["high_freq_factor"]
    for i in range(0, case["head_dim"], 2):
        length = 2 * np.pi * case.get("rope_theta", 10000.0) ** (i / case["head_dim"])
        if length < high:
            found.append(1.0)
        elif length > low:
            found.append(scaling["factor"])
        else:
            smooth = (scaling["original_max_position_embeddings"] / length - scaling["low_freq_factor"]) / (
                scaling["high_freq_factor"] - scaling["low_freq_factor"]
            )
            found.append(1 / ((1 - smooth) / scaling["factor"] + smooth))
    return np.array(found, np.float32)
