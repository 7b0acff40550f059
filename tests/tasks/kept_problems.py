"""The same problems in every form that people keep them in."""

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

Rows = list[dict[str, Any]]


def sums(count: int) -> Rows:
    """Sums in two steps; every fifth row has no solution."""
    rows: Rows = []
    for i in range(count):
        a, b = i % 20, i // 20
        row = {"question": f"What is {a}+{b}?", "final": str(a + b), "level": i % 3}
        rows.append(row if i % 5 == 0 else {**row, "worked": f"{a}+{b}={a + b}\n#### {a + b}"})
    return rows


def jsonl(path: Path, rows: Rows) -> str:
    file = path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def jsonl_gz(path: Path, rows: Rows) -> str:
    file = path / "rows.jsonl.gz"
    file.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    return str(file)


def array(path: Path, rows: Rows) -> str:
    (path / "rows.json").write_text(json.dumps(rows, indent=1))
    return str(path / "rows.json")


def array_gz(path: Path, rows: Rows) -> str:
    (path / "rows.json.gz").write_bytes(gzip.compress(json.dumps(rows).encode()))
    return str(path / "rows.json.gz")


def keyed(path: Path, rows: Rows) -> str:
    (path / "keyed.json").write_text(json.dumps({"version": 3, "tags": [], "data": rows}))
    return str(path / "keyed.json")


def table(rows: Rows) -> pyarrow.Table:
    """With every field of any row; the first row alone would decide."""
    names = dict.fromkeys(name for row in rows for name in row)
    return pyarrow.Table.from_pylist([{name: row.get(name) for name in names} for row in rows])


def parquet(path: Path, rows: Rows) -> str:
    pyarrow.parquet.write_table(table(rows), path / "rows.parquet", row_group_size=7)
    return str(path / "rows.parquet")


def shards(path: Path, rows: Rows) -> list[Path]:
    names = [path / f"train-{i:05}-of-00003.parquet" for i in range(3)]
    for i, name in enumerate(names):
        part = rows[len(rows) * i // 3 : len(rows) * (i + 1) // 3]
        pyarrow.parquet.write_table(table(part), name)
    return names


def globbed(path: Path, rows: Rows) -> str:
    shards(path, rows)
    return str(path / "train-*.parquet")


def listed(path: Path, rows: Rows) -> str:
    return ", ".join(map(str, shards(path, rows)))


def laid_out(path: Path, rows: Rows) -> str:
    """A folder as on the hub: two subsets, by the README."""
    (path / "set" / "main").mkdir(parents=True)
    shards(path / "set" / "main", rows)
    (path / "set" / "README.md").write_text(
        "---\nconfigs:\n- config_name: main\n  data_files:\n  - split: train\n    path: main/train-*\n"
        "  - split: test\n    path: main/test-*\n- config_name: other\n  data_files: other.csv\n---\n# Sums\n"
    )
    return f"{path / 'set'}:main"


def tfds_folder(path: Path, rows: Rows, split: str = "train") -> str:
    """Written without TensorFlow, in order; what a row lacks is an empty text, as TFDS has no null."""
    import numpy as np
    import tensorflow_datasets as tfds
    from array_record.python.array_record_module import ArrayRecordWriter
    from tensorflow_datasets.core import naming
    from tensorflow_datasets.core.dataset_info import DatasetIdentity
    from tensorflow_datasets.proto import tf_example_pb2

    folder = path / "tfds"
    folder.mkdir()
    identity = DatasetIdentity(
        name="sums", version=tfds.core.Version("1.0.0"), data_dir=os.fspath(folder), module_name=__name__
    )
    text = tfds.features.Text()
    features = tfds.features.FeaturesDict(
        {"question": text, "final": text, "worked": text, "level": tfds.features.Scalar(dtype=np.int32)}
    )
    info = tfds.core.DatasetInfo(builder=identity, description="Sums.", features=features, disable_shuffling=True)
    info.set_file_format("array_record")
    template = naming.ShardedFileTemplate(
        dataset_name="sums", data_dir=folder, split=split, filetype_suffix="array_record"
    )
    writer = ArrayRecordWriter(os.fspath(template.sharded_filepath(shard_index=0, num_shards=1)), "group_size:1")
    for row in rows:
        example = tf_example_pb2.Example()
        for name in ("question", "final", "worked"):
            example.features.feature[name].bytes_list.value.append(row.get(name, "").encode())
        example.features.feature["level"].int64_list.value.append(row["level"])
        writer.write(example.SerializeToString())
    writer.close()
    shard = tfds.core.SplitInfo(name=split, shard_lengths=[len(rows)], num_bytes=1, filename_template=template)
    info.set_splits(tfds.core.splits.SplitDict([shard]))
    info.write_to_directory(folder)
    return str(folder)


FORMS: dict[str, Callable[[Path, Rows], str]] = {
    function.__name__: function
    for function in (jsonl, jsonl_gz, array, array_gz, keyed, parquet, globbed, listed, laid_out, tfds_folder)
}


def hub_cache(cache: Path, rows: Rows, name: str = "owner--sums") -> None:
    """A cache of the hub's client that holds a data set, as after a download."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    folder = cache / f"datasets--{name}"
    snapshot = folder / "snapshots" / commit
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    snapshot.mkdir(parents=True)
    laid_out(snapshot, rows)
    for entry in [*(snapshot / "set").iterdir()]:
        entry.rename(snapshot / entry.name)
    (snapshot / "set").rmdir()
