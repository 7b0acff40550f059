"""A TFDS dataset of records in ArrayRecord files, written as a stream and without TensorFlow.

TFDS's own writer shuffles, for which it holds up to a gigabyte; an open ArrayRecord file holds some 20 MB. This one
keeps the order: the records of a split go to one plain file first and, when their number is known, to the shards one
after the other, so that memory depends neither on the rows nor on the shards. The files, their features and their
metadata are TFDS's: `tfds.builder_from_directory` reads the folder.
"""

import itertools
import os
import shutil
import struct
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from stepjax.data.features import features, to_bytes
from stepjax.data.schema import LabelledSolution
from stepjax.errors import UserError

INFO = "dataset_info.json"
_VERSION = "1.0.0"
_LENGTH = struct.Struct("<Q")


class DatasetWriter:
    """Writes a folder whole, under its final name, or not at all: `with DatasetWriter(…) as writer`.

    While it is written it is called `….partial`; a killed run leaves that behind, and the next one removes it.

    Attributes:
      counts: how many records each split has.
    """

    def __init__(
        self, folder: str | Path, *, name: str, shards: int = 8, description: str = "", overwrite: bool = False
    ):
        self._folder = Path(folder)
        self._partial = self._folder.with_name(self._folder.name + ".partial")
        self._name, self._shards, self._description = name, shards, description
        self._overwrite = overwrite
        self.counts: Counter[str] = Counter()
        self._spools: dict[str, BinaryIO] = {}
        if self._folder.exists() and not (overwrite and (self._folder / INFO).is_file()):
            raise UserError(
                f"{self._folder} exists already; "
                + (
                    "it is not a TFDS dataset, so it is not replaced: name another folder"
                    if overwrite
                    else "name another folder, or set config.data.overwrite=True"
                )
            )

    def __enter__(self) -> Self:
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir(parents=True)
        return self

    def write(self, record: LabelledSolution, split: str = "train") -> None:
        """Appends a record to a split. UserError where a text of it cannot be written as UTF-8."""
        try:
            data = to_bytes(record)
        except UnicodeEncodeError:
            raise UserError(
                f"{record.place or record.id}: half a surrogate pair in a text, which is not valid Unicode"
            ) from None
        if split not in self._spools:
            self._spools[split] = (self._partial / f"{split}.records").open("wb")
        self._spools[split].write(_LENGTH.pack(len(data)) + data)
        self.counts[split] += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for spool in self._spools.values():
            spool.close()
        if error is not None:
            shutil.rmtree(self._partial, ignore_errors=True)
            return
        self._describe()
        if self._folder.exists():
            shutil.rmtree(self._folder)
        self._partial.rename(self._folder)

    def add_file(self, name: str, text: str) -> None:
        """A file beside the data, such as its statistics."""
        (self._partial / name).write_text(text)

    def _describe(self) -> None:
        """Gives the shards their names and writes TFDS's `dataset_info.json` and `features.json`."""
        import tensorflow_datasets as tfds
        from tensorflow_datasets.core import naming
        from tensorflow_datasets.core.dataset_info import DatasetIdentity

        identity = DatasetIdentity(
            name=self._name,
            version=tfds.core.Version(_VERSION),
            data_dir=os.fspath(self._partial),
            module_name=__name__,
        )
        info = tfds.core.DatasetInfo(
            builder=identity, description=self._description, features=features(), disable_shuffling=True
        )
        info.set_file_format("array_record")
        splits = []
        for split, count in self.counts.items():
            template = naming.ShardedFileTemplate(
                dataset_name=self._name, data_dir=self._partial, split=split, filetype_suffix="array_record"
            )
            shards = min(self._shards, count)
            paths = [template.sharded_filepath(shard_index=i, num_shards=shards) for i in range(shards)]
            lengths, size = self._shard(split, [os.fspath(path) for path in paths])
            splits.append(
                tfds.core.SplitInfo(name=split, shard_lengths=lengths, num_bytes=size, filename_template=template)
            )
        info.set_splits(tfds.core.splits.SplitDict(splits))
        info.write_to_directory(self._partial)

    def _shard(self, split: str, paths: list[str]) -> tuple[list[int], int]:
        """Moves a split's records to its shards, in order and equally many to each: their numbers, and all bytes."""
        from array_record.python.array_record_module import ArrayRecordWriter

        spool, count, size = self._partial / f"{split}.records", self.counts[split], 0
        bounds = [count * i // len(paths) for i in range(len(paths) + 1)]
        lengths = [stop - start for start, stop in itertools.pairwise(bounds)]
        with spool.open("rb") as file:
            for path, length in zip(paths, lengths, strict=True):
                writer = ArrayRecordWriter(path, "group_size:1")  # one record a chunk: random access, as TFDS has it
                for _ in range(length):
                    (n,) = _LENGTH.unpack(file.read(_LENGTH.size))
                    writer.write(file.read(n))
                    size += n
                writer.close()
        spool.unlink()
        return lengths, size
