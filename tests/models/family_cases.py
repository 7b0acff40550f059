"""Two awkward checkpoints of every family: their config.json, and weights that any machine draws alike."""

import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from stepjax.models import LanguageModel
from stepjax.models.definition import Definition
from stepjax.models.families import family_of
from stepjax.models.safetensors_file import write_file
from stepjax.models.weights import trunk_place

VOCAB, WIDTH = 61, 24
"""Entries of the vocabulary, tokens of a row."""

LENGTHS = (24, 14, 9)
"""Real tokens of each row."""

COMMON: dict[str, Any] = {
    "vocab_size": VOCAB,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def _case(kind: str, layers: int, width: int, heads: int, kv_heads: int, mlp: int, **more: Any) -> dict[str, Any]:
    sizes = {"num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads}
    return {"model_type": kind, **COMMON, **sizes, "num_key_value_heads": kv_heads, "intermediate_size": mlp, **more}


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
FULL, SLIDING = "full_attention", "sliding_attention"

CASES: dict[str, dict[str, Any]] = {
    "qwen2-linear": _case(
        "qwen2", 2, 48, 6, 2, 40, tie_word_embeddings=True, rope_theta=500.0,
        rope_scaling={"type": "linear", "factor": 3.0},
    ),
    "qwen2-window": _case(
        "qwen2", 3, 36, 6, 3, 50, head_dim=10, tie_word_embeddings=False, use_sliding_window=True, sliding_window=5,
        max_window_layers=1, rope_theta=1000.0, rope_scaling=YARN,
    ),
    "qwen3-bias": _case(
        "qwen3", 2, 36, 5, 1, 44, head_dim=12, attention_bias=True, tie_word_embeddings=False,
        rope_parameters={"rope_theta": 300.0, **LLAMA3},
    ),
    "qwen3-window": _case(
        "qwen3", 3, 28, 6, 3, 30, head_dim=8, tie_word_embeddings=True, use_sliding_window=True, sliding_window=4,
        layer_types=[SLIDING, FULL, SLIDING],
        rope_parameters={"rope_theta": 100.0, **YARN, "truncate": False, "attention_factor": 1.3, "beta_fast": 8.0},
    ),
    "llama-biases": _case(
        "llama", 2, 36, 9, 3, 40, head_dim=6, attention_bias=True, mlp_bias=True, tie_word_embeddings=False,
        rope_theta=800.0, rope_scaling=LLAMA3,
    ),
    "llama-gelu": _case(
        "llama", 2, 32, 4, 4, 24, head_dim=16, hidden_act="gelu_pytorch_tanh", tie_word_embeddings=True,
        rope_parameters={"rope_theta": 200.0, "rope_type": "linear", "factor": 2.0},
    ),
    "mistral-window": _case(
        "mistral", 2, 30, 5, 1, 36, head_dim=8, sliding_window=6, rope_theta=1000.0, tie_word_embeddings=False
    ),
    "mistral-yarn": _case(
        "mistral", 2, 40, 6, 2, 36, head_dim=4, sliding_window=None, tie_word_embeddings=False,
        rope_parameters={"rope_theta": 5000.0, **YARN, "mscale": 1.0, "mscale_all_dim": 0.7},
    ),
    "gemma2-caps": _case(
        "gemma2", 3, 32, 4, 2, 40, head_dim=6, query_pre_attn_scalar=10, sliding_window=4, attn_logit_softcapping=2.0,
        final_logit_softcapping=3.0, rope_theta=1000.0,
    ),
    "gemma2-plain": _case(
        "gemma2", 3, 30, 6, 2, 26, head_dim=10, query_pre_attn_scalar=7, sliding_window=6, attn_logit_softcapping=None,
        final_logit_softcapping=None, attention_bias=True, layer_types=[FULL, SLIDING, SLIDING],
        rope_theta=400.0, rope_scaling={"rope_type": "linear", "factor": 2.0},
    ),
    "gemma3-alternating": _case(
        "gemma3_text", 4, 32, 4, 1, 40, head_dim=10, query_pre_attn_scalar=12, sliding_window=4,
        sliding_window_pattern=2, rope_theta=5000.0, rope_local_base_freq=100.0,
        rope_scaling={"rope_type": "linear", "factor": 8.0},
    ),
    "gemma3-nested": _case(
        "gemma3_text", 3, 36, 6, 3, 30, head_dim=8, query_pre_attn_scalar=9, sliding_window=5,
        layer_types=[SLIDING, SLIDING, FULL], final_logit_softcapping=4.0, tie_word_embeddings=False,
        rope_parameters={
            FULL: {"rope_theta": 2000.0, **LLAMA3},
            SLIDING: {"rope_type": "default", "rope_theta": 50.0},
        },
    ),
}  # fmt: skip


def draw(name: str, shape: tuple[int, ...], case: dict[str, Any]) -> np.ndarray:
    """A tensor's numbers by its name: matrices of gain about 1, norms about 1, biases not 0."""
    numbers = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    if "norm" in name:
        return (0.3 * numbers + (0.0 if case["model_type"].startswith("gemma") else 1.0)).astype(np.float32)
    return (numbers * (0.3 if len(shape) == 1 else 1.2 / math.sqrt(shape[-1]))).astype(np.float32)


def tensor_shapes(case: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a checkpoint's tensors."""
    family = family_of("", case)
    decoder = family.decoder("", case)
    definition = Definition(lambda rngs: LanguageModel(decoder, rngs))
    found = {}
    for path in definition.paths:
        leaf: Any = definition.shapes
        for key in path:
            leaf = leaf[key]
        place = trunk_place(family, path, decoder.layers)
        found |= {name: place.tensor_shape(leaf.shape) for name in place.names}
    return found


def write_checkpoint(folder: Path, case: dict[str, Any], dtype: Any = np.float32) -> Path:
    """The checkpoint as a Hugging Face folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(case))
    shapes = tensor_shapes(case)
    tensors = (draw(name, shape, case).astype(dtype) for name, shape in shapes.items())
    write_file(folder / "model.safetensors", {name: (shape, dtype) for name, shape in shapes.items()}, tensors)
    return folder


def tokens() -> np.ndarray:
    """int32[3, WIDTH], ids that are no special tokens."""
    return np.random.RandomState(7).randint(3, VOCAB, (3, WIDTH)).astype(np.int32)


def padded(side: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens, positions and segments (1; 0 is padding) of the three rows, padded on one side."""
    found = [np.zeros((3, WIDTH), np.int32) for _ in range(3)]
    for i, n in enumerate(LENGTHS):
        at = slice(WIDTH - n, WIDTH) if side == "left" else slice(0, n)
        for array, value in zip(found, (tokens()[i, :n], np.arange(n), 1), strict=True):
            array[i, at] = value
    return tuple(found)


def probe(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A fixed direction that a gradient is projected on."""
    return np.random.RandomState(zlib.crc32(b"probe " + name.encode())).standard_normal(shape)
