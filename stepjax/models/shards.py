"""The files of a checkpoint's weights: one safetensors file, or the shards that an index names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stepjax.errors import UserError
from stepjax.models.safetensors_file import Entry, read_header

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def stored_tensors(folder: Path, index: Mapping[str, Any] | None) -> dict[str, Entry]:
    """Every tensor of a folder by the name that its file has for it.

    As transformers does, the single file is read where there is one, and of the index only which shards there are:
    a tensor that a shard holds counts, also where the index does not list it.

    Args:
      index: the contents of the folder's index; None where it has none.

    Raises:
      UserError: no weights, a shard that is missing or outside of the folder, a tensor that no shard or more than one
        holds.
    """
    if (folder / WEIGHTS).is_file():
        return read_header(folder / WEIGHTS)
    if index is None:
        raise UserError(f"{folder}: holds neither {WEIGHTS} nor {INDEX}; only safetensors weights are read")
    places = index.get("weight_map")
    if not isinstance(places, dict) or not places:
        raise UserError(f"{folder / INDEX}: has no weight_map")
    files = sorted({str(file) for file in places.values()})
    for file in files:
        if Path(file).name != file or not file.endswith(".safetensors"):
            raise UserError(f"{folder / INDEX}: {file[:80]!r} is not a file of this folder")
        if not (folder / file).is_file():
            raise UserError(f"{folder}: {file}, which {INDEX} names, is missing; copy it too")
    found: dict[str, Entry] = {}
    for file in files:
        for name, entry in read_header(folder / file).items():
            if name in found:
                raise UserError(
                    f"{folder}: tensor {name[:100]} is in {found[name].file.name} and in {file}; "
                    "which of them counts is not known, so copy the folder again"
                )
            found[name] = entry
    for name, file in places.items():
        if name not in found or found[name].file.name != file:
            raise UserError(f"{folder / str(file)}: tensor {str(name)[:100]} is missing, which {INDEX} names")
    return found
