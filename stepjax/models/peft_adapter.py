"""Adapters in PEFT's format, read and written: adapter_config.json and adapter_model.safetensors."""

import functools
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from stepjax.errors import UserError
from stepjax.models.checkpoint_folder import CheckpointFolder, read_json_object
from stepjax.models.definition import Definition, Params
from stepjax.models.families import Family
from stepjax.models.lora import MODULES, A, B, LoRA, is_adapter
from stepjax.models.safetensors_file import Entry, read_header, write_file
from stepjax.models.tensor_names import PREFIX, check_names, family_names
from stepjax.models.trainable import Trainable
from stepjax.models.weights import Place, read_params, tensor_names, written_tensors
from stepjax.parallel import is_main_process

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

PEFT = "base_model.model."
"""What PEFT puts in front of the model's own names."""

_NAME = re.compile(r"base_model\.model\.(?:model\.)?layers\.(\d+)\.(.+)\.lora_([AB])\.weight")

PLAIN: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none", None),
    "use_dora": (False, None),
    "lora_bias": (False, None),
    "fan_in_fan_out": (False, None),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "layers_to_transform": (None,),
    "layer_replication": (None,),
    "modules_to_save": (None, []),
    "trainable_token_indices": (None,),
    "target_parameters": (None, []),
    "init_lora_weights": (True, False, None, "gaussian", "eva", "orthogonal"),  # the others change the base's weights
    "use_qalora": (False, None),
    "alora_invocation_tokens": (None, []),
    "arrow_config": (None,),
}
"""Fields of an adapter's config that are supported only with these values."""


class AdapterFolder(CheckpointFolder):
    """A folder with an adapter; its config is the adapter's, its tensors the adapter's own."""

    @functools.cached_property
    def tensors(self) -> dict[str, Entry]:
        return read_header(self.path / WEIGHTS)

    @functools.cached_property
    def named(self) -> dict[str, Entry]:
        return family_names(self.path / WEIGHTS, self.tensors, PEFT)


def open_adapter(path: str | Path, family: Family) -> tuple[AdapterFolder, LoRA]:
    """An adapter by folder, with its description.

    Raises:
      UserError: no adapter there, or one that adapts something else than whole projections of all layers.
    """
    folder = AdapterFolder(str(path), Path(path), read_json_object(Path(path) / CONFIG))
    where, config = folder.path / CONFIG, folder.config
    for name, allowed in PLAIN.items():
        if config.get(name) not in allowed and (name in config or None not in allowed):
            raise UserError(f"{where}: {name}={str(config.get(name))[:60]} is not supported; it must be {allowed[0]}")
    rank, alpha = config.get("r", 0), config.get("lora_alpha", "")
    if type(rank) is not int or rank < 1 or type(alpha) not in (int, float):
        raise UserError(f"{where}: r must be a positive number of columns and lora_alpha a number")
    if config.get("use_rslora"):  # scaled by alpha / √r
        alpha *= math.sqrt(rank)
    modules = set()
    of_family = {module: name for name, module in family.modules.items() if name in MODULES}
    for tensor in folder.tensors:
        found = _NAME.fullmatch(tensor)
        if found is None or found[2] not in of_family:
            raise UserError(
                f"{folder.path / WEIGHTS}: {tensor[:100]} adapts something other than a projection of a layer"
            )
        modules.add(of_family[found[2]])
    if not modules:
        raise UserError(f"{folder.path / WEIGHTS}: it has no adapters")
    return folder, LoRA(rank, float(alpha), tuple(name for name in MODULES if name in modules))


def load_adapter(path: str | Path, definition: Definition, lora: LoRA, family: Family, mesh: Mesh) -> Params:
    """The adapters of a `LanguageModel` with adapters, in their shards: a tree of only these leaves.

    Raises:
      UserError: no such adapter, one of another rank, scale or set of modules, or of another model's shape.
    """
    folder, found = open_adapter(path, family)
    if (found.rank, set(found.modules)) != (lora.rank, set(lora.modules)) or not math.isclose(found.alpha, lora.alpha):
        raise UserError(
            f"config.lora: the adapter {path} has rank {found.rank}, alpha {found.alpha:g} and modules "
            f"{', '.join(found.modules)}; give the same options"
        )
    trainable = Trainable(definition, is_adapter)
    places = _places(trainable.shapes, family)
    check_names(folder.path / WEIGHTS, folder.named, tensor_names(places))
    return read_params(folder, places, trainable.shapes, trainable.shardings(mesh), 0)


def save_adapter(
    path: str | Path, params: Params, lora: LoRA, family: Family, mesh: Mesh, *, base: str = "", task: str = "CAUSAL_LM"
) -> None:
    """Writes the adapters among the parameters of a `LanguageModel` as a folder that PEFT loads.

    Args:
      base: name or folder of the model that they adapt.
      task: PEFT's task_type.

    Raises:
      UserError: the folder cannot be written.
    """
    layers = {name: value for name, value in params["trunk"]["layers"].items() if name.endswith((A, B))}
    tree = {"trunk": {"layers": layers}}
    shapes, tensors = written_tensors(_places(tree, family, PEFT), tree, mesh, 0)
    config = {
        "peft_type": "LORA",
        "task_type": task,
        "base_model_name_or_path": base or None,
        "r": lora.rank,
        "lora_alpha": int(lora.alpha) if float(lora.alpha).is_integer() else lora.alpha,
        "lora_dropout": 0.0,
        "target_modules": sorted(family.modules[name].rsplit(".", 1)[-1] for name in lora.modules),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    folder = Path(path)
    try:
        if is_main_process():
            folder.mkdir(parents=True, exist_ok=True)
            write_file(folder / WEIGHTS, shapes, tensors)
            (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        else:
            for _ in tensors:  # every process takes part in the gathering
                pass
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror or error}") from error


def _places(shapes: Mapping[str, Any], family: Family, before: str = "") -> dict[tuple[str, ...], Place]:
    """Tensors of each adapter: A as [rank, in], B as [out, rank], a tensor a layer."""
    places: dict[tuple[str, ...], Place] = {}
    for name, leaf in shapes["trunk"]["layers"].items():
        weight, end = (name.removesuffix(A), "A") if name.endswith(A) else (name.removesuffix(B), "B")
        names = tuple(
            f"{before}{PREFIX}layers.{i}.{family.modules[weight]}.lora_{end}.weight" for i in range(leaf.shape[0])
        )
        folds = (len(leaf.shape) - 2, 1) if end == "A" else (1, len(leaf.shape) - 2)
        places[("trunk", "layers", name)] = Place(names, True, folds, transposed=True)
    return places
