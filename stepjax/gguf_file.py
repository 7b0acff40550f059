"""The GGUF format: a file's metadata and where its tensors lie, without reading them.

A file is a magic, a version, two counts, the metadata (key → typed value), a table of the tensors and, aligned, their
packed numbers. A model may be split into several files, the first of which has the metadata. Every length is validated
before it is used.
"""

import mmap
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stepjax.errors import UserError

SUFFIX = ".gguf"

VERSIONS = (2, 3)

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_FLOAT, _STRING, _ARRAY = 6, 8, 9
_PART = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf")
_MOST_DIMENSIONS = 4


@dataclass(frozen=True)
class Stored:
    """A tensor of a file: its shape (rows first), GGML type, and the byte at which it starts."""

    file: Path
    shape: tuple[int, ...]
    kind: int
    start: int


@dataclass(frozen=True)
class GgufFile:
    """Metadata by key, and tensors by the names that the file has for them."""

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, Stored]


def is_gguf(path: str | Path) -> bool:
    """Whether a path names a GGUF file, there or not."""
    return str(path).lower().endswith(SUFFIX)


def read_gguf(path: Path) -> GgufFile:
    """A file, or all files that a model was split into, by the first; UserError where one is damaged or missing."""
    first = _read_one(path)
    parts = first.metadata.get("split.count", 1)
    if parts in (0, 1):
        return first
    name = _PART.fullmatch(path.name)
    if name is None or int(name[3]) != parts:
        raise UserError(f"{path}: is one of {parts} parts of a model, but is not named so (…-00001-of-{parts:05}.gguf)")
    files = [path.with_name(f"{name[1]}-{i:05}-of-{name[3]}.gguf") for i in range(1, int(name[3]) + 1)]
    if path != files[0]:
        raise UserError(f"{path}: is part {int(name[2])} of {parts} of a model; name the first, {files[0].name}")
    tensors = dict(first.tensors)
    for file in files[1:]:
        if not file.is_file():
            raise UserError(f"{file}: is missing, one of the {parts} parts of {path.name}; copy it too")
        more = _read_one(file).tensors
        if twice := sorted(tensors.keys() & more.keys()):
            raise UserError(f"{file}: tensor {twice[0][:100]} is in another part of the model too")
        tensors |= more
    return GgufFile(path, first.metadata, tensors)


def _read_one(path: Path) -> GgufFile:
    try:
        with open(path, "rb") as file:
            if path.stat().st_size < 24:
                raise UserError(f"{path}: not a whole GGUF file; copy it again")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _Header(path, data).read()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


class _Header:
    """Reads values one after the other."""

    def __init__(self, path: Path, data: mmap.mmap):
        self._path, self._data, self._size, self._at = path, data, len(data), 0

    def read(self) -> GgufFile:
        if (magic := self._take(4)) != b"GGUF":
            raise UserError(f"{self._path}: not a GGUF file (it begins with {magic!r})")
        version = self._scalar("I")
        if version not in VERSIONS:
            raise UserError(
                f"{self._path}: GGUF version {version} is not supported (there are: 2 and 3, little-endian); "
                "convert the model again with today's llama.cpp"
            )
        tensors, keys = self._scalar("Q"), self._scalar("Q")
        metadata: dict[str, Any] = {}
        for _ in range(keys):
            key = self._text()
            if key in metadata:
                raise UserError(f"{self._path}: has the key {key[:100]} twice")
            metadata[key] = self._value(self._scalar("I"))
        table = [self._tensor() for _ in range(tensors)]
        alignment = metadata.get("general.alignment", 32)
        if type(alignment) is not int or alignment <= 0 or alignment & (alignment - 1):
            raise UserError(f"{self._path}: general.alignment={str(alignment)[:40]} must be a power of two")
        base = -(-self._at // alignment) * alignment
        found: dict[str, Stored] = {}
        for name, shape, kind, offset in table:
            if name in found:
                raise UserError(f"{self._path}: has the tensor {name[:100]} twice")
            found[name] = Stored(self._path, shape, kind, base + offset)
        return GgufFile(self._path, metadata, found)

    def _tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        name, dimensions = self._text(), self._scalar("I")
        if dimensions > _MOST_DIMENSIONS:
            raise UserError(f"{self._path}: tensor {name[:100]} has {dimensions} dimensions, so the file is damaged")
        shape = tuple(self._scalar("Q") for _ in range(dimensions))
        return name, shape[::-1], self._scalar("I"), self._scalar("Q")

    def _take(self, count: int) -> bytes:
        self._at += count
        if self._at > self._size:
            raise UserError(f"{self._path}: truncated, its header is cut off; copy it again")
        return self._data[self._at - count : self._at]

    def _scalar(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self._take(struct.calcsize(f"<{code}")))[0]

    def _text(self) -> str:
        # A damaged name is shown, and not an error of its own.
        return self._take(self._scalar("Q")).decode("utf-8", "replace")

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._text()
        if kind == _ARRAY:
            return self._array(self._scalar("I"), self._scalar("Q"))
        if kind not in _SCALARS:
            raise UserError(f"{self._path}: metadata of type {kind} is not known, so the file is damaged or too new")
        found = self._scalar(_SCALARS[kind])
        # The shortest number that is the same float32: 1e-05, and not 9.999999747378752e-06.
        return float(str(np.float32(found))) if kind == _FLOAT else found

    def _array(self, kind: int, count: int) -> list[Any]:
        if kind in _SCALARS:
            code = _SCALARS[kind]
            return list(struct.unpack(f"<{count}{code}", self._take(count * struct.calcsize(f"<{code}"))))
        if kind == _ARRAY:
            raise UserError(f"{self._path}: arrays of arrays are not supported in metadata")
        return [self._value(kind) for _ in range(count)]
