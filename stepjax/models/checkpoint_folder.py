"""A Hugging Face checkpoint before its weights are read: its folder, config.json, and the file of each tensor."""

import contextlib
import dataclasses
import functools
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepjax.console.progress import say
from stepjax.errors import UserError
from stepjax.gguf_file import is_gguf
from stepjax.models.config import DecoderConfig
from stepjax.models.families import Family, family_of
from stepjax.models.gguf_model import GgufModel, open_gguf
from stepjax.models.package_checkpoint import PREFIX, package_file
from stepjax.models.safetensors_file import Entry
from stepjax.models.shards import INDEX, stored_tensors
from stepjax.models.tensor_names import EMBEDDING, UNEMBEDDING, check_names, differ, family_names

GENERATION, ADAPTER = "generation_config.json", "adapter_config.json"

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
      wrapper: prefix of the tensors of a model that was saved inside of another one.
    """

    name: str
    path: Path
    config: Mapping[str, Any]
    wrapper: str = ""

    @property
    def where(self) -> str:
        return str(self.path / "config.json")

    @property
    def paths(self) -> tuple[Path, ...]:
        """The folder, or the files, that it consists of; `path` first."""
        return (self.path,)

    @property
    def described(self) -> str:
        """What says of which shape the tensors must be."""
        return "config.json"

    @functools.cached_property
    def family(self) -> Family:
        with self._read():
            return family_of(self.where, self.config)

    @functools.cached_property
    def decoder(self) -> DecoderConfig:
        """The decoder that config.json describes, computing in float32; UserError where it cannot be built.

        Embeddings that config.json ties but that are stored with other numbers each are not tied, as in transformers.
        """
        found = self._told
        names = self.named
        if not found.tied or UNEMBEDDING not in names or not differ(names[EMBEDDING], names[UNEMBEDDING]):
            return found
        say(
            f"{self.path}: config.json ties the embeddings, but {UNEMBEDDING} differs from {EMBEDDING}: "
            "they are not tied",
            stream=sys.stderr,
        )
        return dataclasses.replace(found, tied=False)

    @functools.cached_property
    def _told(self) -> DecoderConfig:
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
    def named(self) -> dict[str, Entry]:
        """Every tensor by its name in the family; UserError where that is not clear."""
        found = family_names(self.path, self.tensors, self.wrapper)
        if UNEMBEDDING in found and EMBEDDING not in found and self._told.tied:
            found[EMBEDDING] = found[UNEMBEDDING]  # one table under the name of the other
        return found

    @functools.cached_property
    def generation_config(self) -> Mapping[str, Any] | None:
        """Its generation_config.json; None where there is none."""
        path = self.path / GENERATION
        return read_json_object(path) if path.is_file() else None

    @functools.cached_property
    def ends(self) -> tuple[int, ...]:
        """The ids that end a text: those of generation_config.json, and where it names none of config.json.

        UserError where one is no id of the model.
        """
        for where, values in ((str(self.path / GENERATION), self.generation_config), (self.where, self.config)):
            found = (values or {}).get("eos_token_id")
            if found is None or found == []:
                continue
            ids = found if isinstance(found, list) else [found]
            rows = self.decoder.vocab
            if not all(type(i) is int and 0 <= i < rows for i in ids):
                raise UserError(
                    f"{where}: eos_token_id={str(found)[:60]} must be an id below vocab_size={rows}, or a list of such"
                )
            return tuple(dict.fromkeys(ids))
        return ()

    @functools.cached_property
    def tensors(self) -> dict[str, Entry]:
        """Every tensor by the name that its file has for it."""
        index = self.path / INDEX
        return stored_tensors(self.path, read_json_object(index) if index.is_file() else None)

    def check_tensors(self, wanted: Sequence[str], unread: tuple[str, ...] = ()) -> None:
        """UserError where a wanted tensor is missing, or one is left over that begins with none of `unread`.

        The output embedding of tied ones may be stored as well.
        """
        found = [n for n in self.named if n != UNEMBEDDING or n in wanted or not self.decoder.tied]
        check_names(self.path, found, wanted, unread, self.described)


@dataclass(frozen=True)
class GgufCheckpoint(CheckpointFolder):
    """A checkpoint whose `path` is a GGUF file, or the first of several.

    Attributes:
      model: the file's.
    """

    model: GgufModel = dataclasses.field(kw_only=True)

    @property
    def where(self) -> str:
        return str(self.path)

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(dict.fromkeys([self.path, *(stored.file for stored in self.model.file.tensors.values())]))

    @property
    def described(self) -> str:
        return "the metadata"

    @functools.cached_property
    def generation_config(self) -> Mapping[str, Any] | None:
        """The ids at which its texts begin and end."""
        return self.model.generation_config

    @functools.cached_property
    def tensors(self) -> dict[str, Entry]:
        return self.model.tensors


def open_checkpoint(name: str | Path) -> CheckpointFolder:
    """A checkpoint by folder, GGUF file, hub name (`owner/name`, `owner/name@revision`) or package (`package:name`).

    UserError where there is none.
    """
    path = package_file(str(name)) if str(name).startswith(PREFIX) else Path(name).expanduser()
    if is_gguf(path) and not path.is_dir():
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        model = open_gguf(path)
        return GgufCheckpoint(str(name), path, model.config, model=model)
    if path.is_file():
        raise UserError(f"{path}: is a file; name the folder with its config.json, or a .gguf file")
    if not path.is_dir():
        if str(name).startswith((".", "/", "~")) or not HUB_NAME.fullmatch(str(name)):
            raise UserError(f"{path}: no such folder")
        path = _download(str(name))
    if not (path / "config.json").is_file():
        if files := sorted(file.name for file in path.iterdir() if is_gguf(file)):
            raise UserError(f"{path}: holds no config.json, but {files[0]}; name that file")
        raise UserError(f"{path}: holds no config.json, so it is not a Hugging Face checkpoint")
    if (path / ADAPTER).is_file():
        raise UserError(
            f"{path}: holds {ADAPTER} beside config.json, and other software would load the model that this adapter "
            "names; name the model in config.model.path and the adapter in config.lora.path, each in its own folder"
        )
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
