"""The safetensors format: a file's tensors by name, sliced without reading the rest; files written tensor by tensor.

A file is eight bytes (the header's length, little-endian), a JSON header (name → dtype, shape, byte range) and the
numbers. Every length in it is validated before it is used.
"""

import json
import math
import mmap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from stepjax.errors import UserError

DTYPES: dict[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
CODES = {np.dtype(kind): code for code, kind in DTYPES.items()}

LONGEST_HEADER = 100_000_000


@dataclass(frozen=True)
class Entry:
    """A tensor of a file: dtype, shape and byte range."""

    file: Path
    dtype: np.dtype
    shape: tuple[int, ...]
    start: int

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def visit(self, use: Callable[[np.ndarray], None]) -> None:
        """Calls `use` with the tensor, mapped: only what it reads is loaded, and all of it is let go afterwards."""
        if not self.bytes:
            use(np.zeros(self.shape, self.dtype))
            return
        first = self.start // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        with open(self.file, "rb") as file:
            mapped = mmap.mmap(file.fileno(), self.start - first + self.bytes, access=mmap.ACCESS_READ, offset=first)
        numbers = np.frombuffer(mapped, self.dtype, math.prod(self.shape), self.start - first).reshape(self.shape)
        use(numbers)
        del numbers  # the mapping cannot end while an array looks into it
        mapped.close()


def read_header(path: Path) -> dict[str, Entry]:
    """The tensors of a file by name; UserError where it is not a whole safetensors file."""
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, LONGEST_HEADER):
                raise UserError(f"{path}: not a whole safetensors file (its header is cut off); copy it again")
            header = json.loads(file.read(length))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path}: not a safetensors file (its header is not JSON)") from None
    if not isinstance(header, dict):
        raise UserError(f"{path}: not a safetensors file (its header is not a JSON object)")
    found = {
        str(name): _entry(path, str(name), value, 8 + length)
        for name, value in header.items()
        if name != "__metadata__"
    }
    needed = max((e.start + e.bytes for e in found.values()), default=0)
    if needed > size:
        raise UserError(f"{path}: truncated, {needed - size} of {needed} bytes are missing; copy it again")
    return found


def _entry(path: Path, name: str, value: Any, base: int) -> Entry:
    try:
        code, shape, (start, end) = value["dtype"], tuple(value["shape"]), value["data_offsets"]
        if not all(type(n) is int and n >= 0 for n in (*shape, start, end)):
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path}: the header's entry of {name[:100]!r} is malformed") from None
    if not isinstance(code, str) or code not in DTYPES:
        raise UserError(f"{path}: tensor {name[:100]} has dtype {str(code)[:20]}, which is not supported")
    entry = Entry(path, np.dtype(DTYPES[code]), shape, base + start)
    if entry.bytes != end - start:
        raise UserError(f"{path}: the header's entry of {name[:100]!r} contradicts itself (shape and byte range)")
    return entry


def write_file(path: Path, shapes: Mapping[str, tuple[tuple[int, ...], Any]], tensors: Iterable[np.ndarray]) -> None:
    """Writes a file whose tensors come one after the other, in the order of `shapes` (name → shape and dtype)."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, (shape, dtype) in shapes.items():
        size = math.prod(shape) * np.dtype(dtype).itemsize
        header[name] = {"dtype": CODES[np.dtype(dtype)], "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for (name, (shape, dtype)), tensor in zip(shapes.items(), tensors, strict=True):
            assert tensor.shape == shape and tensor.dtype == dtype, name
            file.write(np.ascontiguousarray(tensor).view(np.uint8).data)
