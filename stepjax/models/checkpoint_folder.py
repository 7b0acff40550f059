"""A Hugging Face checkpoint before its weights are read: its folder, config.json, and the file of each tensor."""

import contextlib
import functools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepjax.errors import UserError
from stepjax.models.config import DecoderConfig
from stepjax.models.families import Family, family_of
from stepjax.models.safetensors_file import Entry, read_header

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"

HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?(@[\w./-]+)?")
"""`owner/name`, with `@revision` if need be."""

WANTED = ["*.json", "*.safetensors", "tokenizer.model", "*.jinja", "*.txt"]


@dataclass(frozen=True)
class CheckpointFolder:
    """A checkpoint on this machine.

    Attributes:
      name: as the user wrote it.
      path: its folder.
      config: its config.json.
    """

    name: str
    path: Path
    config: Mapping[str, Any]

    @property
    def where(self) -> str:
        return str(self.path / "config.json")

    @functools.cached_property
    def family(self) -> Family:
        with self._read():
            return family_of(self.where, self.config)

    @functools.cached_property
    def decoder(self) -> DecoderConfig:
        """The decoder that config.json describes, computing in float32; UserError where it cannot be built."""
        with self._read():
            return self.family.decoder(self.where, self.config)

    @contextlib.contextmanager
    def _read(self) -> Iterator[None]:
        """UserError in the place of what a value of a type or size that no model has may raise where it is read."""
        try:
            yield
        except (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError) as error:
            raise UserError(f"{self.where}: a field has a value that no model has ({error!r:.200})") from error

    @functools.cached_property
    def tensors(self) -> dict[str, Entry]:
        """Every tensor by name."""
        index = self.path / INDEX
        if not index.is_file():
            if not (self.path / WEIGHTS).is_file():
                raise UserError(f"{self.path}: holds neither {WEIGHTS} nor {INDEX}; only safetensors weights are read")
            return read_header(self.path / WEIGHTS)
        places = read_json_object(index).get("weight_map")
        if not isinstance(places, dict):
            raise UserError(f"{index}: has no weight_map")
        files = sorted({str(file) for file in places.values()})
        for file in files:
            if Path(file).name != file or not file.endswith(".safetensors"):
                raise UserError(f"{index}: {file[:80]!r} is not a file of this folder")
            if not (self.path / file).is_file():
                raise UserError(f"{self.path}: {file}, which {INDEX} names, is missing")
        headers = {file: read_header(self.path / file) for file in files}
        for name, file in places.items():
            if name not in headers[file]:
                raise UserError(f"{self.path / file}: tensor {str(name)[:100]} is missing, which {INDEX} names")
        return {name: headers[file][name] for name, file in places.items()}


def open_checkpoint(name: str | Path) -> CheckpointFolder:
    """A checkpoint by folder or hub name (`owner/name`, `owner/name@revision`); UserError where there is none."""
    path = Path(name).expanduser()
    if path.is_file():
        raise UserError(f"{path}: is a file; name the folder with its config.json")
    if not path.is_dir():
        if str(name).startswith((".", "/", "~")) or not HUB_NAME.fullmatch(str(name)):
            raise UserError(f"{path}: no such folder")
        path = _download(str(name))
    if not (path / "config.json").is_file():
        raise UserError(f"{path}: holds no config.json, so it is not a Hugging Face checkpoint")
    return CheckpointFolder(str(name), path, read_json_object(path / "config.json"))


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    repository, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=WANTED))
    except Exception as error:  # network, authorisation, names: any error of the client
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{name}: neither a folder nor a model that the hub gives ({first[:200]})") from None


def read_json_object(path: Path) -> dict[str, Any]:
    """A JSON object from a file; UserError where it is not one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({str(error)[:100]})") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: must hold a JSON object")
    return found
