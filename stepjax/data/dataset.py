"""Datasets of records by random access: TFDS folders that `stepjax data` wrote, JSONL files of records."""

import os
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stepjax.data.features import features, from_bytes
from stepjax.data.jsonl import parse_line
from stepjax.data.schema import LabelledSolution, SchemaError
from stepjax.errors import UserError

INFO = "dataset_info.json"


class Records(Sequence[LabelledSolution]):
    """Records of a dataset by random access: a TFDS folder that `stepjax data` wrote, or a JSONL file of records.

    Only positions are held in memory. Can be copied to other processes.
    """

    def __init__(self, path: str | Path, split: str = "train"):
        """UserError where there is no such dataset, or (TFDS) it has no such split. A JSONL file is the split train."""
        self.path, self.split = Path(path), split
        self._open()

    def _open(self) -> None:
        if self.path.is_dir():
            self._source: Any = _source(self.path, self.split)
            self._offsets = None
        else:
            self._source, self._offsets = None, _offsets(self.path)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "split": self.split}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def __len__(self) -> int:
        return len(self._source) if self._offsets is None else len(self._offsets)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        i = int(i)
        if not -len(self) <= i < len(self):
            raise IndexError(i)
        i %= len(self)
        if self._offsets is None:
            return from_bytes(self._source[i])
        line, start = self._offsets[i]
        return _at(self.path, int(line), int(start))


def splits(path: str | Path) -> list[str]:
    """Names of a dataset's splits; a JSONL file has only train."""
    if not Path(path).is_dir():
        return ["train"]
    return list(tfds_builder(Path(path)).info.splits)


def tfds_builder(folder: Path) -> Any:
    """The builder of a TFDS folder; UserError where it is none, or a damaged one."""
    import tensorflow_datasets as tfds

    if not (folder / INFO).is_file():
        raise UserError(f"{folder}: not a dataset (no {INFO}); write one with `stepjax data`")
    try:
        return tfds.builder_from_directory(os.fspath(folder))
    except Exception as error:  # a damaged folder may raise any error of the libraries
        raise UserError(f"{folder}: not a readable TFDS dataset: {str(error).splitlines()[0]}") from None


def _source(folder: Path, split: str) -> Any:
    """Serialised examples of a split by random access."""
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    builder = tfds_builder(folder)
    if split not in builder.info.splits:
        raise UserError(f"{folder}: no split {split!r}; it has {', '.join(builder.info.splits) or 'none'}")
    missing = set(features()) - set(builder.info.features)
    if missing:
        raise UserError(f"{folder}: not a dataset of stepjax's records (no {', '.join(sorted(missing))})")
    return ArrayRecordDataSource(builder.info.splits[split].file_instructions)


def _offsets(path: Path) -> np.ndarray:
    """int64[rows, 2]: line number and byte offset of each row that is not blank."""
    found, start = array("q"), 0
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                if raw.strip() and raw.strip() != b"\xef\xbb\xbf":
                    found.extend((number, start))
                start += len(raw)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    return np.frombuffer(found, np.int64).reshape(-1, 2) if found else np.zeros((0, 2), np.int64)


def _at(path: Path, number: int, start: int) -> LabelledSolution:
    where = f"{path}:{number}"
    with path.open("rb") as file:
        file.seek(start)
        row = parse_line(file.readline().removeprefix(b"\xef\xbb\xbf"), where)
    try:
        return LabelledSolution.from_json(row)
    except SchemaError as error:
        raise UserError(f"{where}: {error}") from None
