"""Public process reward models from Hugging Face folders: a trunk as in any checkpoint, and a head by convention."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from stepjax.errors import UserError
from stepjax.models.checkpoint_folder import CheckpointFolder, open_checkpoint
from stepjax.models.definition import Definition, Params
from stepjax.models.prm_heads import public_head
from stepjax.models.tensor_names import EMBEDDING, UNEMBEDDING
from stepjax.models.weights import Place, read_params, tensor_names, trunk_place
from stepjax.parallel import put

WRAPPER = "pretrained_model."
"""Prefix of the tensors of a model that was saved inside of a wrapper with a head."""

OTHER_HEADS = ("lm_head.", "score.", "v_head.")
"""Beginnings of tensors that a process reward model may have besides its own head, and that its scores do not need."""

HEADS = {
    "two_layer": {
        "hidden": "score.0.weight",
        "hidden_bias": "score.0.bias",
        "head": "score.2.weight",
        "bias": "score.2.bias",
    },
    "linear": {"head": "score.weight", "bias": "score.bias"},
    "value": {"head": "v_head.summary.weight", "bias": "v_head.summary.bias"},
    "tokens": {},
}
"""The tensors of each kind of head (`stepjax.rewards.conventions`)."""


def load_prm(
    path: str | Path,
    mesh: Mesh,
    *,
    head: str,
    classes: Sequence[int] = (),
    dtype: Any = jnp.float32,
    entries: int = 0,
    longest: int = 0,
) -> tuple[Definition, Params]:
    """A process reward model from a folder or hub name, each device's part read straight into its shard.

    Args:
      head: two_layer, linear, value or tokens.
      classes: ids of the tokens for bad and good, where the head is the output embedding's two rows.
      dtype: of the computation and the parameters; scores are float32 all the same.
      entries: of the tokenizer, which the embedding must have.
      longest: tokens of a row, which the model's positions must reach.

    Raises:
      UserError: no such checkpoint, a damaged one, or one without this head.
    """
    checkpoint = open_checkpoint(path)
    if any(name.startswith(WRAPPER) for name in checkpoint.tensors):
        checkpoint = dataclasses.replace(checkpoint, wrapper=WRAPPER)
    _check_sizes(checkpoint, entries, longest)
    config = dataclasses.replace(checkpoint.decoder, dtype=jnp.dtype(dtype), param_dtype=jnp.dtype(dtype))
    if head == "tokens" and config.logit_cap:
        raise UserError(f"{checkpoint.where}: capped logits are not supported in a process reward model")
    definition: Definition = Definition(lambda rngs: public_head(config, head, rngs))
    places: dict[tuple[str, ...], Place] = {}
    for at in definition.paths:
        if at[0] == "trunk" and (place := trunk_place(checkpoint.family, at, config.layers)) is not None:
            places[at] = place
    for name, tensor in HEADS[head].items():
        if name.endswith("bias"):
            if head != "linear" or tensor in checkpoint.named:  # some token classifiers have no bias
                places[(name,)] = Place((tensor,), False, (1,))
        else:
            places[(name,)] = Place((tensor,), False, (1, 1), transposed=True)
    output = EMBEDDING if config.tied else UNEMBEDDING
    read = [*HEADS[head].values()] or [output, UNEMBEDDING]
    others = tuple(start for start in OTHER_HEADS if not any(name.startswith(start) for name in read))
    checkpoint.check_tensors([*tensor_names(places), *([output] if head == "tokens" else [])], others)
    shapes, shardings = definition.shapes, definition.shardings(mesh)
    params = read_params(checkpoint, places, shapes, shardings, config.vocab)
    if head == "tokens":
        rows = _rows(checkpoint, output, classes)
        params["head"] = put(rows.T.astype(shapes["head"].dtype), shardings["head"])
    if "bias" not in params:
        params["bias"] = put(np.zeros(shapes["bias"].shape, shapes["bias"].dtype), shardings["bias"])
    assert params.keys() == shapes.keys()
    return definition, params


def _check_sizes(checkpoint: CheckpointFolder, entries: int, longest: int) -> None:
    if entries > checkpoint.decoder.vocab:
        raise UserError(
            f"{checkpoint.where}: the tokenizer has {entries} entries, the embedding {checkpoint.decoder.vocab} rows"
        )
    positions = checkpoint.config.get("max_position_embeddings")
    if isinstance(positions, int) and longest > positions:
        raise UserError(
            f"config.prm.row_tokens={longest}: {checkpoint.name} was made for {positions} tokens; lower it to that"
        )


def _rows(checkpoint: CheckpointFolder, name: str, chosen: Sequence[int]) -> np.ndarray:
    """These rows of the output embedding, float32[n, width]."""
    entry, config = checkpoint.named[name], checkpoint.decoder
    if entry.shape != (config.vocab, config.width):
        raise UserError(
            f"{checkpoint.path}: tensor {name} has shape {list(entry.shape)}, {checkpoint.described} says "
            f"{[config.vocab, config.width]}"
        )
    found: list[np.ndarray] = []
    entry.visit(lambda table: found.append(table[list(chosen)].astype(np.float32)))
    return found[0]
