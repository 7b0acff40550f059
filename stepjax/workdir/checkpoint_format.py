"""A checkpoint's folder: the names of its leaves, its manifest, and whether it is whole.

Besides the arrays that orbax writes, a checkpoint holds `checkpoint.json`: its step, the host's state, the shape and
type of every leaf, and the size of every file. It is written last, so a folder without it, or with a file of
another size, is not whole. Comparing a checkpoint with a model needs this file only, not the arrays. What the
checkpoint was made of lies in `origin/` (`stepjax.workdir.origin`), which the manifest does not list.
"""

import json
import os
import re
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import jax

MANIFEST, ORIGIN = "checkpoint.json", "origin"
PARTIAL = ".partial"  # being written
DELETED = ".deleted"  # being removed

LeafName = tuple[str, ...]


class DamagedError(Exception):
    """The checkpoint is not whole; the message says why."""


def named_leaves(tree: Any) -> dict[LeafName, Any]:
    """The leaves of any pytree by name: `{"a": [x, y]}` gives `("a", "0")` and `("a", "1")`."""
    leaves = {}
    for key_path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        name = tuple(jax.tree_util.keystr((key,), simple=True) for key in key_path) or ("value",)
        if name in leaves:
            raise ValueError(
                f"two leaves are named {'/'.join(name)}: a dict has both an integer and its string as keys"
            )
        leaves[name] = leaf
    return leaves


def nested(leaves: Mapping[LeafName, Any]) -> dict[str, Any]:
    """Plain dicts of the named leaves: what is on disk does not depend on the Python classes of the tree."""
    tree: dict[str, Any] = {}
    for name, leaf in leaves.items():
        node = tree
        for key in name[:-1]:
            node = node.setdefault(key, {})
        node[name[-1]] = leaf
    return tree


def describe(leaves: Mapping[LeafName, Any]) -> dict[str, str]:
    """The leaves as a manifest lists them: `{"policy/embed": "float32[256,64]"}`."""
    return {"/".join(n): f"{x.dtype}[{','.join(map(str, x.shape))}]" for n, x in leaves.items()}


def difference(saved: Mapping[str, str], wanted: Mapping[str, str], *, cast: bool = False) -> str | None:
    """The first leaf that differs, in words; None if none does. With `cast` the element types may differ."""

    def kind(text: str) -> str:
        return text[text.index("[") :] if cast else text

    for name, text in wanted.items():
        if name not in saved:
            return f"leaf {name} ({text} here) is not in the checkpoint"
        if kind(saved[name]) != kind(text):
            return f"leaf {name} is {saved[name]} in the checkpoint and {text} here"
    for name, text in saved.items():
        if name not in wanted:
            return f"leaf {name} ({text} in the checkpoint) does not exist here"
    return None


def write_manifest(folder: Path, step: int, host: Any, leaves: Mapping[str, str]) -> None:
    """Completes a folder whose arrays are written; returns when the manifest is on the disk."""
    manifest = {"step": step, "host": host, "leaves": dict(leaves), "files": _sizes(folder)}
    with open(folder / MANIFEST, "w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(folder)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a whole checkpoint.

    Raises:
      DamagedError: a file is missing or has another size than when the checkpoint was written.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        expected = dict(manifest["files"])
        manifest["step"], manifest["host"]  # a manifest without them is no manifest
        if not all(isinstance(text, str) and "[" in text for text in dict(manifest["leaves"]).values()):
            raise ValueError("its leaves are not described")
    except FileNotFoundError:
        raise DamagedError(f"it has no {MANIFEST}") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedError(f"its {MANIFEST} cannot be read: {reason(error)}") from None
    found = _sizes(folder)
    for name, size in expected.items():
        if name not in found:
            raise DamagedError(f"file {name} is missing")
        if found[name] != size:
            raise DamagedError(f"file {name} has {found[name]} bytes instead of {size}")
    return manifest


def steps(directory: Path) -> list[int]:
    """The steps that have a folder, whole or not, in rising order."""
    try:
        return sorted(int(entry.name) for entry in os.scandir(directory) if entry.name.isdecimal() and entry.is_dir())
    except FileNotFoundError:
        return []


def newest_whole(directory: Path) -> int | None:
    """The newest step whose files are complete, None without one."""
    for step in reversed(steps(directory)):
        try:
            read_manifest(directory / str(step))
            return step
        except DamagedError:
            continue
    return None


def clean(directory: Path, spare: Collection[Path] = ()) -> None:
    """Cleans up after a killed process: completes a checkpoint that lacks only its last rename, removes the rest.

    `spare`: the partial folders that this process is writing, which stay.
    """
    for entry in list(directory.iterdir()):
        stem, dot, suffix = entry.name.partition(".")
        if not (stem.isdecimal() and (dot + suffix).startswith((PARTIAL, DELETED))):
            continue
        if directory / f"{stem}{PARTIAL}" in spare:
            continue
        if dot + suffix == PARTIAL and not (directory / stem).exists():
            try:
                read_manifest(entry)
                entry.rename(directory / stem)
                continue
            except DamagedError:
                pass
        shutil.rmtree(entry, ignore_errors=True)


def discard(partial: Path) -> None:
    """Removes a save that failed, to free the space that it takes."""
    for folder in partial.parent.glob(f"{partial.name}*"):
        shutil.rmtree(folder, ignore_errors=True)


def remove(folder: Path) -> None:
    """Removes a checkpoint. Renamed first: a half-deleted folder never carries the name of a checkpoint."""
    doomed = folder.with_name(folder.name + DELETED)
    shutil.rmtree(doomed, ignore_errors=True)
    folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Syncs the folder's entries (creations, renames) to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def reason(error: BaseException, limit: int = 200) -> str:
    """Why reading or writing failed, in a few words: where there are any, the system's ("No space left on device")."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    # TensorStore gives the system's number at the end of a long text: `... [os_error_code='28']`.
    if code := re.search(r"os_error_code='(\d+)'", text):
        return os.strerror(int(code[1]))
    return text if len(text) <= limit else text[:limit] + " ..."


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes of every file of the arrays below `folder`, by relative path."""
    files = sorted(Path(root, name) for root, _, names in os.walk(folder) for name in names)
    found = {path.relative_to(folder).as_posix(): path for path in files}
    return {name: path.stat().st_size for name, path in found.items() if not is_beside(name)}


def is_beside(name: str) -> bool:
    """True for the relative path of a file that belongs to a checkpoint, but not to its arrays."""
    return name == MANIFEST or name.partition("/")[0].partition(".")[0] == ORIGIN
