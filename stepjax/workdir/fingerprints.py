"""Fingerprints of files: a size and a SHA-256, so that a file that was changed is known for what it is.

Data files are read whole (some 1.3 GB a second). Weights may be a hundred gigabytes: of a file of weights above
`WHOLE` bytes, `BLOCKS` blocks that lie evenly over it are read, the first and the last among them. That tells any other
training of a model, whose numbers differ everywhere, but not an edit of a few numbers between two blocks.
"""

import hashlib
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from stepjax.errors import UserError

WHOLE = 64 << 20
"""Bytes; files of weights above this are read in blocks."""
BLOCK, BLOCKS = 64 << 10, 128
"""Bytes of a block, and how many are read of a file."""
TRUSTED = 256 << 20
"""Bytes; a data file above this that has the size and the time of its last change as before is not read again."""
_THREADS = 4

ACCEPT = "--accept-changed"
"""The argument by which a user goes on with what was changed."""

Print = dict[str, Any]
"""`size` in bytes and `sha256`; `sampled`: of its blocks only; `mtime_ns` of a file that is trusted by its time."""

Parts = dict[str, dict[str, Print]]
"""Kind ("data", "tokenizer", …) → name → fingerprint."""


class Change(NamedTuple):
    """One fingerprint that is not what it was; None: it was not there, or is not there any more."""

    kind: str
    name: str
    before: Print | None
    now: Print | None

    def __str__(self) -> str:
        before, now = _shown(self.before), _shown(self.now)
        return f"{self.name} ({before} then, {now} now)"


def file_print(path: Path, *, weights: bool = False, known: Print | None = None) -> Print:
    """The fingerprint of a file.

    Args:
      weights: large files are read in blocks.
      known: what it was before; taken over where the file is large and has the same size and time.

    Raises:
      UserError: the file cannot be read.
    """
    try:
        return _read(path, weights, known)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error


def _read(path: Path, weights: bool, known: Print | None) -> Print:
    with open(path, "rb") as file:
        about = os.fstat(file.fileno())
        size = about.st_size
        if weights and size > WHOLE:
            digest = hashlib.sha256(str(size).encode())
            for i in range(BLOCKS):
                file.seek((size - BLOCK) * i // (BLOCKS - 1))
                digest.update(file.read(BLOCK))
            return {"size": size, "sha256": digest.hexdigest(), "sampled": True}
        timed = {"mtime_ns": about.st_mtime_ns} if size > TRUSTED else {}
        if timed and known and (known["size"], known.get("mtime_ns")) == (size, about.st_mtime_ns):
            return dict(known)
        return {"size": size, "sha256": hashlib.file_digest(file, "sha256").hexdigest(), **timed}


def bytes_print(content: bytes) -> Print:
    """The fingerprint that a file of this content has."""
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def prints_of(
    files: Mapping[str, Path], *, weights: bool = False, known: Mapping[str, Print] | None = None
) -> dict[str, Print]:
    """The fingerprints of several files, by their names, read in a few threads."""
    known = known or {}
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="fingerprints") as pool:
        jobs = {
            name: pool.submit(file_print, path, weights=weights, known=known.get(name)) for name, path in files.items()
        }
        return {name: job.result() for name, job in jobs.items()}


def files_of(name: str, path: Path, patterns: Collection[str] = ()) -> dict[str, Path]:
    """A file by its name, or the files of a folder by the folder's name and theirs; {} where there is nothing.

    With `patterns` only those that fit one and lie in the folder itself: of a model's folder nothing below is read, and
    its trainer's checkpoints, or the runs that start from it, may lie there.
    """
    if path.is_file():
        return {name: path}
    if patterns:
        files = path.iterdir() if path.is_dir() else ()
        found = sorted(file for file in files if any(fnmatch(file.name, pattern) for pattern in patterns))
    else:
        found = sorted(Path(root, file) for root, _, names in os.walk(path) for file in names)
    return {f"{name}/{file.relative_to(path).as_posix()}": file for file in found if file.is_file()}


def folder_print(path: Path, without: Callable[[str], bool]) -> Print:
    """One fingerprint of all files of weights below a folder, those apart whose relative path is `without`."""
    files = {name: file for name, file in files_of("", path).items() if not without(name.removeprefix("/"))}
    found = prints_of(files, weights=True)
    text = "\n".join(f"{name} {found[name]['size']} {found[name]['sha256']}" for name in sorted(found))
    size = sum(each["size"] for each in found.values())
    return {"size": size, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def same(before: Print | None, now: Print | None) -> bool:
    """Whether two fingerprints are of the same content."""
    return before is not None and now is not None and {**before, "mtime_ns": 0} == {**now, "mtime_ns": 0}


def changes(before: Parts, now: Parts, kinds: Collection[str]) -> Iterator[Change]:
    """What differs in the kinds that both have, in their order; a kind that was never recorded is no change."""
    for kind in kinds:
        if kind not in before or kind not in now:
            continue
        there, here = before[kind], now[kind]
        for name in [*there, *(name for name in here if name not in there)]:
            if not same(there.get(name), here.get(name)):
                yield Change(kind, name, there.get(name), here.get(name))


def _shown(found: Print | None) -> str:
    if found is None:
        return "none"
    if "sha256" not in found:
        return " ".join(str(value) for value in found.values())
    step = f"step {found['step']}, " if "step" in found else ""
    return f"{step}{found['size']:,} bytes, sha256 {found['sha256'][:8]}…"
