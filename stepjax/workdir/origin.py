"""What a checkpoint was made of, beside its arrays: `<step>/origin/`.

`origin.json` holds the fingerprints (`parts`) and the changes that the user accepted since the stage began (`changes`);
`tokenizer/` is a copy of the tokenizer's files. The manifest does not list them: a change that is accepted later is
written here, too, and the tokenizer's files have their fingerprints.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stepjax.workdir import checkpoint_format as fmt
from stepjax.workdir.fingerprints import Change, Parts, Print, bytes_print, files_of, same

FILE, TOKENIZER = "origin.json", "tokenizer"


@dataclass
class Record:
    """What a checkpoint was made of.

    Attributes:
      parts: the fingerprints of its tokenizer, data, …
      changes: what was changed and accepted, the oldest first: `step`, `kind`, `name`, `from`, `to`.
    """

    parts: Parts = field(default_factory=dict)
    changes: list[dict[str, Any]] = field(default_factory=list)

    def accept(self, change: Change, step: int) -> None:
        """Notes a change and takes it over."""
        self.changes.append(
            {"step": step, "kind": change.kind, "name": change.name, "from": change.before, "to": change.now}
        )
        of_kind = self.parts.setdefault(change.kind, {})
        if change.now is None:
            of_kind.pop(change.name, None)
        else:
            of_kind[change.name] = change.now


def write(checkpoint: Path, record: Record, tokenizer: Mapping[str, bytes]) -> None:
    """Writes the folder, or replaces it; returns when it is on the disk."""
    final, partial = checkpoint / fmt.ORIGIN, checkpoint / f"{fmt.ORIGIN}{fmt.PARTIAL}"
    shutil.rmtree(partial, ignore_errors=True)
    files = {f"{TOKENIZER}/{name}": content for name, content in tokenizer.items()}
    files[FILE] = json.dumps({"parts": record.parts, "changes": record.changes}, indent=1).encode() + b"\n"
    for name, content in files.items():
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        with open(partial / name, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    if final.exists():
        fmt.remove(final)
    partial.rename(final)
    fmt.sync_folder(checkpoint)


def read(checkpoint: Path) -> Record | None:
    """The record of a checkpoint; None where it has none (that of an earlier version), or it cannot be read."""
    try:
        found = json.loads((checkpoint / fmt.ORIGIN / FILE).read_text(encoding="utf-8"))
        parts = {kind: {name: _checked(p) for name, p in of.items()} for kind, of in found["parts"].items()}
        return Record(parts, [dict(change) for change in found["changes"]])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _checked(found: Any) -> Print:
    """A fingerprint as it was written; ValueError for anything else."""
    if "sha256" in found:
        whole = type(found["size"]) is int and type(found["sha256"]) is str and type(found.get("step", 0)) is int
    else:  # of code
        whole = type(found["version"]) is str and all(type(value) is str for value in found.values())
    if not whole:
        raise ValueError("not a fingerprint")
    return dict(found)


def newest(stage: Path) -> tuple[int, Path] | None:
    """The step and the folder of a stage's newest whole checkpoint."""
    step = fmt.newest_whole(stage)
    return None if step is None else (step, stage / str(step))


def read_tokenizer(folder: Path) -> dict[str, bytes]:
    """The files of a tokenizer's folder by relative path; {} where there is none."""
    return {name.removeprefix("/"): path.read_bytes() for name, path in files_of("", folder).items()}


def kept_tokenizers(workdir: Path) -> Iterator[tuple[Path, dict[str, bytes]]]:
    """The whole copies of the tokenizer in a work directory's checkpoints, of each stage the newest first."""
    checkpoints = workdir / "checkpoints"
    stages = sorted(path for path in checkpoints.iterdir() if path.is_dir()) if checkpoints.is_dir() else []
    for stage in stages:
        for step in reversed(fmt.steps(stage)):
            record = read(stage / str(step))
            recorded = record.parts.get(TOKENIZER, {}) if record else {}
            files = read_tokenizer(stage / str(step) / fmt.ORIGIN / TOKENIZER)
            if recorded and all(n in files and same(found, bytes_print(files[n])) for n, found in recorded.items()):
                yield stage / str(step), {name: files[name] for name in recorded}


def write_tokenizer(folder: Path, files: Mapping[str, bytes]) -> None:
    """Makes the folder of a tokenizer, or gives one the files that it lacks."""
    partial = folder.with_name(folder.name + fmt.PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, content in files.items():
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        (partial / name).write_bytes(content)
    if not folder.exists():
        partial.rename(folder)
        return
    for name in files:
        if not (folder / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(partial / name, folder / name)
    shutil.rmtree(partial)
