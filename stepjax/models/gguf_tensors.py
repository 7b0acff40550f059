"""Tensors of a GGUF file as a family's checkpoint has them: rows unpacked by the library `gguf` when they are read."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from stepjax.errors import UserError
from stepjax.gguf_file import Stored
from stepjax.models.safetensors_file import Entry

PLAIN: dict[int, Any] = {0: np.float32, 1: np.float16, 30: ml_dtypes.bfloat16}
"""GGML types of numbers that are not packed."""

_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Packed(Entry):
    """A tensor whose rows are unpacked when they are read; float32 where the file has them in blocks.

    Attributes:
      dtype, shape: of the unpacked tensor.
      kind: GGML type.
      pairs: the size of a head whose rows the file has in the order of pairs (0, h/2, 1, h/2 + 1 …); 0: as they are.
      offset: what the file's numbers have added to them.
    """

    kind: int = 0
    pairs: int = 0
    offset: float = 0.0

    def visit(self, use: Callable[[Any], None]) -> None:
        """Calls `use` with what stands for the tensor: only the rows that it takes are unpacked."""
        rows = self.shape[0] if len(self.shape) > 1 else 1
        blocks = np.memmap(self.file, np.uint8, "r", self.start, (rows, self.stored // rows))
        use(_Rows(self, blocks))

    @property
    def stored(self) -> int:
        """Bytes in the file."""
        return stored_bytes(self.kind, self.shape)


class _Rows:
    """Stands for a tensor: slices of it are arrays."""

    def __init__(self, tensor: Packed, blocks: np.ndarray):
        self.shape, self.dtype = tensor.shape, tensor.dtype
        self._tensor, self._blocks = tensor, blocks

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        first, *rest = index if isinstance(index, tuple) else (index,)
        if len(self.shape) == 1:
            return self._unpack(self._blocks)[0][self._order()[first]]
        found = self._unpack(self._blocks[self._order()[first]])
        return found[(slice(None), *rest)]

    def _order(self) -> np.ndarray:
        """The file's row of each row (or number, of a vector)."""
        rows = np.arange(self.shape[0])
        if not self._tensor.pairs:
            return rows
        return rows.reshape(-1, self._tensor.pairs // 2, 2).swapaxes(1, 2).ravel()

    def _unpack(self, blocks: np.ndarray) -> np.ndarray:
        kind, tensor = self._tensor.kind, self._tensor
        blocks = np.ascontiguousarray(blocks)
        if kind in PLAIN:
            found = blocks.view(PLAIN[kind])
        else:
            gguf = library()
            found = np.empty((len(blocks), tensor.shape[-1]), np.float32)
            step = max(_AT_ONCE // tensor.shape[-1], 1)  # the library holds twice what it unpacks
            for at in range(0, len(blocks), step):
                found[at : at + step] = gguf.dequantize(blocks[at : at + step], gguf.GGMLQuantizationType(kind))
        return found if not tensor.offset else found - found.dtype.type(tensor.offset)


def library() -> Any:
    """The package `gguf`; UserError where it is not installed."""
    try:
        import gguf
    except ImportError:
        raise UserError("GGUF files are read with the library gguf: pip install 'stepjax[gguf]'") from None
    return gguf


def check_kind(stored: Stored, name: str) -> None:
    """UserError where a tensor's packing is not known, or where the file is too short for it."""
    gguf = library()
    try:
        kind = gguf.GGMLQuantizationType(stored.kind)
    except ValueError:
        raise UserError(
            f"{stored.file}: tensor {name[:100]} has GGML type {stored.kind}, which the library gguf does not know; "
            "a newer one may: pip install -U gguf"
        ) from None
    block, size = gguf.GGML_QUANT_SIZES[kind]
    if stored.kind not in PLAIN:
        try:
            gguf.dequantize(np.zeros((1, size), np.uint8), kind)
        except NotImplementedError:
            raise UserError(
                f"{stored.file}: tensor {name[:100]} is of type {kind.name}, which cannot be unpacked; "
                "convert the model to another, such as Q8_0 or F16"
            ) from None
    if not stored.shape or math.prod(stored.shape) == 0 or stored.shape[-1] % block:
        raise UserError(
            f"{stored.file}: tensor {name[:100]} of shape {list(stored.shape)} has no whole blocks of {kind.name}"
        )
    missing = stored.start + stored_bytes(stored.kind, stored.shape) - stored.file.stat().st_size
    if missing > 0:
        raise UserError(f"{stored.file}: truncated, {missing} bytes of tensor {name[:100]} are missing; copy it again")


def stored_bytes(kind: int, shape: tuple[int, ...]) -> int:
    """Bytes of a tensor in the file."""
    gguf = library()
    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(kind)]
    return math.prod(shape) // block * size
