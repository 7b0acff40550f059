"""Rows from where people keep them: files by path, list or glob, TFDS folders, folders in the hub's layout, the hub."""

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from stepjax.data.dataset import INFO
from stepjax.data.hub import folder_files, hub_files
from stepjax.data.jsonl import near
from stepjax.data.rows import Row, read_rows
from stepjax.data.tfds_rows import tfds_rows
from stepjax.errors import UserError

HUB = "hub:"
_HUB_NAME = re.compile(r"([\w.-]+(?:/[\w.-]+)?(?:@[\w./-]+)?)(?::([\w.+-]+))?")


class Place(NamedTuple):
    """A file, or a folder of TFDS.

    Attributes:
      name: by the user's name for it, the same on every machine.
      split: of a folder, or the key of the list in a JSON object.
    """

    name: str
    path: Path
    split: str = ""


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
    for place in _places(source, split, default):
        if place.path.is_dir():
            yield from tfds_rows(place.path, place.split)
            continue
        if not place.path.is_file():
            raise UserError(f"{place.path}: no such file{near(place.path)}")
        if place.split and not place.path.name.endswith((".json", ".json.gz")):
            raise UserError(
                f"{place.path}: the file has no splits, so {place.split!r} cannot be chosen; leave the split's option "
                "empty"
            )
        yield from read_rows(place.path, key=place.split, default=default)


def source_files(source: str, split: str = "", *, default: str = "train") -> dict[str, Path]:
    """The files and TFDS folders of a source by the user's names for them; a missing one stands for itself."""
    try:
        return {place.name: place.path for place in _places(source, split, default)}
    except UserError:  # what reads it will say so
        return {source: Path(source)}


def _places(source: str, split: str, default: str) -> Iterator[Place]:
    # `os.path`, unlike `Path.exists`, takes a list that is longer than a path may be.
    for part in [source] if os.path.exists(os.path.expanduser(source)) else source.split(","):
        yield from _of_part(part.strip(), split, default)


def _of_part(source: str, split: str, default: str) -> Iterator[Place]:
    if source.startswith(HUB):
        named = _HUB_NAME.fullmatch(source.removeprefix(HUB))
        if named is None:
            raise UserError(f"{source}: a hub data set is written {HUB}owner/name, or {HUB}owner/name@revision:subset")
        for name, file in hub_files(named[1], named[2] or "", split or default).items():
            yield Place(f"{HUB}{named[1]}/{name}", file)
        return
    path = Path(source).expanduser()
    folder, _, subset = source.rpartition(":")
    if path.is_dir() and (path / INFO).is_file():
        yield Place(source, path, split or default)
    elif path.is_dir():
        yield from (Place(str(file), file) for file in folder_files(path, "", split or default))
    elif path.exists() or not (folder and Path(folder).expanduser().is_dir()):
        yield from (Place(str(file), file, split) for file in _matches(path))
    else:
        files = folder_files(Path(folder).expanduser(), subset, split or default)
        yield from (Place(str(file), file) for file in files)


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
