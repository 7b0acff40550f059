"""Rows of any TFDS folder in ArrayRecord files, as Python values; TensorFlow is not imported."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stepjax.data.dataset import tfds_builder
from stepjax.data.rows import Row
from stepjax.errors import UserError


def tfds_rows(folder: Path, split: str) -> Iterator[Row]:
    """A split's rows in order, one at a time; places are `folder/split:number`. UserError where it cannot be read."""
    builder = tfds_builder(folder)
    if split not in builder.info.splits:
        raise UserError(f"{folder}: no split {split!r}; it has {', '.join(builder.info.splits) or 'none'}")
    if builder.info.file_format.value != "array_record":
        raise UserError(
            f"{folder}: stored as {builder.info.file_format.value}, which only TensorFlow reads; prepare it again with "
            "`tfds build --file_format=array_record`"
        )
    try:
        source = builder.as_data_source(split)
        for i in range(len(source)):
            yield Row(f"{folder}/{split}:{i + 1}", {name: _plain(value) for name, value in source[i].items()})
    except (OSError, ValueError, RuntimeError, IndexError) as error:
        raise UserError(f"{folder}: split {split!r} cannot be read: {str(error).splitlines()[0]}") from None


def _plain(value: Any) -> Any:
    """A value of TFDS as JSON would hold it."""
    if isinstance(value, Mapping):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, np.ndarray):
        return [_plain(entry) for entry in value]
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, np.floating):
        return float(str(value))  # 0.1 of a single-precision column stays 0.1
    return value.item() if isinstance(value, np.generic) else value
