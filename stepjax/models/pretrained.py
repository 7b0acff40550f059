"""Hugging Face checkpoints in and out: `load_pretrained`, `save_pretrained`."""

import dataclasses
import functools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from stepjax.errors import UserError
from stepjax.models.checkpoint_folder import CheckpointFolder, open_checkpoint
from stepjax.models.config import DecoderConfig
from stepjax.models.definition import Definition, Params
from stepjax.models.families import Family, describe, family_of
from stepjax.models.heads import LanguageModel
from stepjax.models.safetensors_file import write_file
from stepjax.models.shards import INDEX, WEIGHTS
from stepjax.models.tensor_names import EMBEDDING
from stepjax.models.weights import read_params, tensor_names, trunk_place, written_tensors
from stepjax.parallel import is_main_process, make_mesh

SHARD_BYTES = 5 * 10**9
"""Largest file that is written, unless a single tensor is larger."""


@dataclasses.dataclass(frozen=True)
class PretrainedModel:
    """A language model with its parameters.

    Attributes:
      config: the decoder.
      source: the config.json that describes it.
      params: its parameters, on the mesh.
    """

    config: DecoderConfig
    source: Mapping[str, Any]
    params: Params
    mesh: Mesh

    @functools.cached_property
    def definition(self) -> Definition[LanguageModel]:
        return Definition(lambda rngs: LanguageModel(self.config, rngs))

    @property
    def family(self) -> Family:
        """The family of the checkpoint that the model was loaded from."""
        return family_of("config.json", self.source)

    @functools.cached_property
    def _logits(self) -> Any:
        def logits(params: Params, tokens: Array, positions: Array, segments: Array) -> Array:
            model = self.definition.bind(params)
            return model.logits(model.trunk(tokens, positions, segments))

        return jax.jit(logits)

    def __call__(
        self,
        tokens: Int[Array, "B T"],
        positions: Int[Array, "B T"] | None = None,
        segments: Int[Array, "B T"] | None = None,
    ) -> Float[Array, "B T V"]:
        """Logits, float32: position t predicts token t + 1.

        Rows are whole unless `segments` is given: 0 is padding, and tokens see only those of their own segment.
        `positions` count from 0 in each segment; without them the columns count.
        """
        tokens = jnp.asarray(tokens, jnp.int32)
        if positions is None:
            positions = jnp.broadcast_to(jnp.arange(tokens.shape[1], dtype=jnp.int32), tokens.shape)
        if segments is None:
            segments = jnp.ones_like(tokens)
        with jax.set_mesh(self.mesh):
            return self._logits(self.params, tokens, jnp.asarray(positions), jnp.asarray(segments))


def checkpoint_dtype(checkpoint: CheckpointFolder) -> Any:
    """The dtype of the checkpoint's weights, by its embedding."""
    entry = checkpoint.named.get(EMBEDDING)
    return jnp.float32 if entry is None or entry.dtype.itemsize > 4 else entry.dtype.type


def pretrained_params(checkpoint: CheckpointFolder, config: DecoderConfig, mesh: Mesh) -> Params:
    """The parameters of a `LanguageModel` of this config, each device's shard read on its own.

    `config` is the checkpoint's `decoder`, other dtypes and a larger `vocab` (rows of 0 are added) allowed.
    """
    definition = Definition(lambda rngs: LanguageModel(config, rngs))
    places = {}
    for path in definition.paths:
        place = trunk_place(checkpoint.family, path, config.layers)
        assert place is not None, path
        places[path] = place
    checkpoint.check_tensors(tensor_names(places))
    rows = checkpoint.decoder.vocab
    return read_params(checkpoint, places, definition.shapes, definition.shardings(mesh), rows)


def load_pretrained(
    path: str | Path, *, mesh: Mesh | None = None, dtype: Any = None, param_dtype: Any = None
) -> PretrainedModel:
    """A causal language model from a Hugging Face folder or hub name (`owner/name`, `owner/name@revision`).

    Tensors are read one by one, each device's part straight into its shard; no second copy of the weights is held.

    Args:
      path: a folder with config.json and safetensors weights (one file, or an index of several).
      mesh: over which the parameters are sharded; None: only the first device.
      dtype: of the computation (norms, softmax and logits are float32 all the same); None: that of the parameters.
      param_dtype: of the parameters; None: the checkpoint's.

    Returns:
      a model: `model(tokens: int[B, T]) -> logits float32[B, T, V]`.

    Raises:
      UserError: no such folder or model, another family, a damaged file, a missing or misshapen tensor.
    """
    checkpoint = open_checkpoint(path)
    mesh = make_mesh(1, 1, 1, devices=jax.local_devices()[:1]) if mesh is None else mesh
    param_dtype = jnp.dtype(checkpoint_dtype(checkpoint) if param_dtype is None else param_dtype)
    dtype = param_dtype if dtype is None else jnp.dtype(dtype)
    config = dataclasses.replace(checkpoint.decoder, dtype=dtype, param_dtype=param_dtype)
    return PretrainedModel(config, checkpoint.config, pretrained_params(checkpoint, config, mesh), mesh)


def save_pretrained(
    model: PretrainedModel,
    path: str | Path,
    tokenizer: Any = None,
    generation_config: Mapping[str, Any] | None = None,
    *,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Writes a folder that transformers loads: weights (the parameters bit by bit), config.json, and what is given.

    Args:
      path: the folder, new or empty; files of the same names are replaced.
      tokenizer: a Hugging Face tokenizer, saved with the weights.
      generation_config: for generation_config.json.
      shard_bytes: weights above this size are written to several files with an index.

    Raises:
      UserError: the folder cannot be written.
    """
    folder = Path(path)
    source = dict(model.source or describe(model.config))
    family = family_of(str(folder), source)
    config = model.config
    places = {path: trunk_place(family, path, config.layers) for path in model.definition.paths}
    assert all(place is not None for place in places.values())
    rows = int(source["vocab_size"])
    shapes, tensors = written_tensors(places, model.params, model.mesh, rows)  # type: ignore[arg-type]
    if config.tied != source.get("tie_word_embeddings", family.tied):  # of a checkpoint that contradicted itself
        source["tie_word_embeddings"] = config.tied
    key = "dtype" if "dtype" in source else "torch_dtype"
    source |= {key: jnp.dtype(config.param_dtype).name, "architectures": [family.architecture]}
    try:
        if is_main_process():
            folder.mkdir(parents=True, exist_ok=True)
            _write_shards(folder, shapes, tensors, shard_bytes)
            _write_json(folder / "config.json", source)
            if generation_config is not None:
                _write_json(folder / "generation_config.json", dict(generation_config))
            if tokenizer is not None:
                tokenizer.save_pretrained(str(folder))
        else:
            for _ in tensors:  # every process takes part in the gathering
                pass
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror or error}") from error


def _write_shards(folder: Path, shapes: Mapping[str, tuple[tuple[int, ...], Any]], tensors: Any, limit: int) -> None:
    files: list[dict[str, tuple[tuple[int, ...], Any]]] = [{}]
    total = size = 0
    for name, (shape, dtype) in shapes.items():
        bytes_ = math.prod(shape) * dtype.itemsize
        if files[-1] and size + bytes_ > limit:
            files.append({})
            size = 0
        files[-1][name] = (shape, dtype)
        size, total = size + bytes_, total + bytes_
    names = [f"model-{i + 1:05}-of-{len(files):05}.safetensors" for i in range(len(files))]
    names = [WEIGHTS] if len(files) == 1 else names
    for old in folder.glob("model*.safetensors*"):  # of an earlier save, with other shards perhaps
        old.unlink()
    for name, part in zip(names, files, strict=True):
        write_file(folder / name, part, (next(tensors) for _ in part))
    if len(files) > 1:
        places = {tensor: name for name, part in zip(names, files, strict=True) for tensor in part}
        _write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": places})


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
