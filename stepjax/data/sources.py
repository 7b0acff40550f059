"""Rows from where people keep them: files by path, list or glob, TFDS folders, folders in the hub's layout, the hub."""

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path

from stepjax.data.dataset import INFO
from stepjax.data.hub import folder_files, hub_files
from stepjax.data.jsonl import near
from stepjax.data.rows import Row, read_rows
from stepjax.data.tfds_rows import tfds_rows
from stepjax.errors import UserError

HUB = "hub:"
_HUB_NAME = re.compile(r"([\w.-]+(?:/[\w.-]+)?(?:@[\w./-]+)?)(?::([\w.+-]+))?")


def source_rows(source: str, split: str = "", *, default: str = "train") -> Iterator[Row]:
    """The rows of a source, in order, one (in Parquet, one batch) at a time.

    Args:
      source: a path or a glob; a folder (TFDS, or files named as on the hub), `folder:subset`; `hub:owner/name`,
        `hub:owner/name@revision:subset`; or several of these with commas between them. A file is JSON Lines unless it
        ends in `.json` or `.parquet`; `.gz` at the end is unpacked.
      split: the split of a folder or hub data set, or the key of the list in a JSON object; "" for `default`.

    Raises:
      UserError: a file, split or subset that is not there, naming what there is; a row that cannot be read.
    """
    # `os.path`, unlike `Path.exists`, takes a list that is longer than a path may be.
    for part in [source] if os.path.exists(os.path.expanduser(source)) else source.split(","):
        yield from _rows(part.strip(), split, default)


def _rows(source: str, split: str, default: str) -> Iterator[Row]:
    if source.startswith(HUB):
        named = _HUB_NAME.fullmatch(source.removeprefix(HUB))
        if named is None:
            raise UserError(f"{source}: a hub data set is written {HUB}owner/name, or {HUB}owner/name@revision:subset")
        yield from _files(hub_files(named[1], named[2] or "", split or default), "", default)
        return
    path = Path(source).expanduser()
    folder, _, subset = source.rpartition(":")
    if path.is_dir() and (path / INFO).is_file():
        yield from tfds_rows(path, split or default)
    elif path.is_dir():
        yield from _files(folder_files(path, "", split or default), "", default)
    elif path.exists() or not (folder and Path(folder).expanduser().is_dir()):
        yield from _files(_matches(path), split, default)
    else:
        yield from _files(folder_files(Path(folder).expanduser(), subset, split or default), "", default)


def _matches(path: Path) -> list[Path]:
    """The file, or those that a glob matches, sorted."""
    if path.exists() or not glob.has_magic(str(path)):
        return [path]
    found = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file())
    if not found:
        raise UserError(f"{path}: no file matches{near(path) or _beside(path)}")
    return found


def _beside(path: Path) -> str:
    names = sorted(entry.name for entry in path.parent.iterdir() if entry.is_file()) if path.parent.is_dir() else []
    return f"; the folder has {', '.join(names[:8])}{', …' if len(names) > 8 else ''}" if names else ""


def _files(paths: list[Path], key: str, default: str) -> Iterator[Row]:
    for path in paths:
        if not path.is_file():
            raise UserError(f"{path}: no such file{near(path)}")
        if key and not path.name.endswith((".json", ".json.gz")):
            raise UserError(
                f"{path}: the file has no splits, so {key!r} cannot be chosen; leave the split's option empty"
            )
        yield from read_rows(path, key=key, default=default)
