"""A GGUF file as a model: its metadata as config.json, its tensors by their family's names."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stepjax.errors import UserError
from stepjax.gguf_file import GgufFile, Stored, read_gguf
from stepjax.models.config_fields import Fields
from stepjax.models.families import FAMILIES
from stepjax.models.gguf_config import LAYOUTS, OUTPUT, ROPE_FACTORS, Layout, Source, config_of
from stepjax.models.gguf_tensors import PLAIN, Packed, check_kind
from stepjax.models.safetensors_file import Entry
from stepjax.models.tensor_names import EMBEDDING, PREFIX, UNEMBEDDING

MODULES = {
    "attention_norm": "attn_norm",
    "query": "attn_q",
    "key": "attn_k",
    "value": "attn_v",
    "output": "attn_output",
    "query_norm": "attn_q_norm",
    "key_norm": "attn_k_norm",
    "attention_post_norm": "post_attention_norm",
    "mlp_norm": "ffn_norm",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
    "mlp_post_norm": "post_ffw_norm",
}
"""Weights of a layer and their names in a file, alike in all architectures."""

END_FIELDS = tuple(f"tokenizer.ggml.{name}_token_id" for name in ("eos", "eot", "eom"))

END_TOKENS = frozenset(
    ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<|end|>", "<|endoftext|>", "<|end_of_text|>")
)
"""Tokens that end a text wherever a vocabulary has them as such; few files name all of theirs in `END_FIELDS`."""

_ADDED = (3, 4)
"""Types of control and user-defined tokens: those that are no pieces of text."""
_TABLE = "token_embd.weight"


@dataclass(frozen=True)
class GgufModel:
    """A model in a file, or in several, before its weights are read.

    Attributes:
      file: the header.
      layout: of its architecture.
      config: what a config.json would say of it.
    """

    file: GgufFile
    layout: Layout
    config: Mapping[str, Any]

    @functools.cached_property
    def generation_config(self) -> Mapping[str, Any] | None:
        """The ids at which its texts begin and end."""
        ids = {key: self.config[key] for key in ("bos_token_id", "pad_token_id") if self.config.get(key) is not None}
        ends = _ends(self.file.metadata)
        return {**ids, "eos_token_id": ends} if ends else None

    @functools.cached_property
    def tensors(self) -> dict[str, Entry]:
        """Every tensor by its family's name, the rotary factors left out: they are part of the config."""
        names = {_TABLE: EMBEDDING, "output_norm.weight": f"{PREFIX}norm.weight", f"{OUTPUT}.weight": UNEMBEDDING}
        for weight, module in FAMILIES[self.config["model_type"]].modules.items():
            for i in range(self.config["num_hidden_layers"]):
                for end in ("weight", "bias"):
                    names[f"blk.{i}.{MODULES[weight]}.{end}"] = f"{PREFIX}layers.{i}.{module}.{end}"
        found: dict[str, Entry] = {}
        for name, stored in self.file.tensors.items():
            if name == ROPE_FACTORS:
                continue
            if name not in names:
                raise UserError(
                    f"{stored.file}: tensor {name[:100]} has no place in a model of architecture "
                    f"{self.file.metadata['general.architecture']} with {self.config['num_hidden_layers']} layers"
                )
            found[names[name]] = self._entry(name, stored)
        return found

    def _entry(self, name: str, stored: Stored) -> Packed:
        check_kind(stored, name)
        module = name.rsplit(".", 2)[-2]
        paired = self.layout.pairs and module in (MODULES["query"], MODULES["key"])
        return Packed(
            stored.file,
            np.dtype(PLAIN.get(stored.kind, np.float32)),
            stored.shape,
            stored.start,
            kind=stored.kind,
            pairs=self.config["head_dim"] if paired else 0,
            offset=self.layout.norm_offset if module.endswith("norm") else 0.0,
        )


def open_gguf(path: Path) -> GgufModel:
    """The model in a GGUF file; UserError where it is damaged, or of an architecture that is not known."""
    file = read_gguf(path)
    architecture = str(file.metadata.get("general.architecture"))
    layout = LAYOUTS.get(architecture)
    if layout is None:
        raise UserError(
            f"{path}: architecture {architecture[:60]!r} is not supported (there are: {', '.join(LAYOUTS)})"
        )
    table = file.tensors.get(_TABLE)
    if table is None or len(table.shape) != 2:
        raise UserError(f"{path}: has no table {_TABLE}, so it is not a whole language model")
    source = Source(architecture, Fields(str(path), file.metadata), file.tensors, _rope_factors(file))
    return GgufModel(file, layout, config_of(source, layout, table.shape[0]))


def _ends(metadata: Mapping[str, Any]) -> list[int]:
    """The ids that end a text, each once, the end-of-text token first."""
    tokens, kinds = (metadata.get(f"tokenizer.ggml.{name}") or [] for name in ("tokens", "token_type"))
    named = [metadata[field] for field in END_FIELDS if field in metadata]
    known = [
        i for i, (token, kind) in enumerate(zip(tokens, kinds, strict=False)) if kind in _ADDED and token in END_TOKENS
    ]
    return list(dict.fromkeys([*named, *known]))


def _rope_factors(file: GgufFile) -> np.ndarray | None:
    stored = file.tensors.get(ROPE_FACTORS)
    if stored is None:
        return None
    check_kind(stored, ROPE_FACTORS)
    found: list[np.ndarray] = []
    dtype = np.dtype(PLAIN.get(stored.kind, np.float32))
    Packed(stored.file, dtype, stored.shape, stored.start, kind=stored.kind).visit(lambda x: found.append(x[:]))
    return found[0].astype(np.float32)
