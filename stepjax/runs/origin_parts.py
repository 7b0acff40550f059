"""Which files a run is made of, and their fingerprints: code, tokenizer, data, model, earlier stages."""

import contextlib
import importlib.util
import os
import sys
from collections.abc import Callable, Collection
from pathlib import Path

import jax

from stepjax.config import PRM_SCORERS
from stepjax.data.sources import source_files
from stepjax.models.checkpoint_folder import WANTED, open_checkpoint
from stepjax.runs.base import base_of
from stepjax.runs.setup import Run
from stepjax.tasks.hooks import ReadsFiles
from stepjax.workdir import checkpoint_format as fmt
from stepjax.workdir import origin
from stepjax.workdir.array_store import is_readable
from stepjax.workdir.code_version import code_version, release
from stepjax.workdir.fingerprints import Parts, Print, files_of, folder_print, prints_of

EXPORTING = ("tokenizer", "model", "stages")
"""What an export depends on: it reads no data."""
READING = (*EXPORTING, "data")
"""What measuring and labelling depend on: any version of stepjax may do it."""
TRAINING = ("release", *READING, "rater")
"""What training depends on."""
TRIED = 2**30
"""Bytes of a checkpoint that is read to see whether it is damaged."""
RECORDED = ("code", *TRAINING)
"""What a checkpoint keeps: `code` is the source within a release, of which a change is said and no more."""


def parts_of(run: Run, stage: str, kinds: Collection[str], known: Parts) -> Parts:
    """The fingerprints of what a stage of a run is made of.

    Args:
      kinds: some of `RECORDED`.
      known: what they were: a large file that has the same size and time is not read again, and data that is not on
        this machine counts as it was.
    """
    return {kind: _KINDS[kind](run, stage, known.get(kind, {})) for kind in kinds}


def _code(run: Run, stage: str, known: dict[str, Print]) -> dict[str, Print]:
    return {"stepjax": code_version()}


def _release(run: Run, stage: str, known: dict[str, Print]) -> dict[str, Print]:
    return {"stepjax": release(code_version())}


def _tokenizer(run: Run, stage: str, known: dict[str, Print]) -> dict[str, Print]:
    files = origin.read_tokenizer(run.workdir / origin.TOKENIZER)
    return {name: origin.bytes_print(content) for name, content in files.items()}


def _data(run: Run, stage: str, known: dict[str, Print]) -> dict[str, Print]:
    """The files of problems and labels, and the modules of the user's functions, by the names that the user gave."""
    paths = dict(run.task.files()) if isinstance(run.task, ReadsFiles) else {}
    if shots := run.config.prompt.shots_file:
        paths |= source_files(shots)
    if stage == "prm" and run.config.prm.data:
        paths[run.config.prm.data] = Path(run.prm_data)
    functions = [run.config.task.grader]
    if stage == "ppo":
        functions += [options.function for options in run.config.ppo.streams.values()]
    paths |= {function: _module_file(function) or Path(function) for function in functions if function}
    found: dict[str, Print] = {}
    files: dict[str, Path] = {}
    for name, path in paths.items():
        files |= files_of(name, path)
        if not path.exists():  # what reads it will say so; an export, for one, does not
            found |= {n: p for n, p in known.items() if n == name or n.startswith(f"{name}/")}
    return found | _read(run, files, known, weights=False)


def _module_file(function: str) -> Path | None:
    """The file of the module in "package.module:function", found as `rewards.hosted.find_function` finds it."""
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    with contextlib.suppress(Exception):  # a package may raise anything: the stage that imports it says so
        spec = importlib.util.find_spec(function.partition(":")[0])
        if spec is not None and spec.has_location and spec.origin:
            return Path(spec.origin)
    return None


def _model(run: Run, stage: str, known: dict[str, Print]) -> dict[str, Print]:
    """The pretrained checkpoint, and the adapter, that the policy starts from."""
    files: dict[str, Path] = {}
    if run.start is not None:
        for path in run.start.paths:
            files |= files_of(run.start.name if path == run.start.path else path.name, path, WANTED)
    if run.config.lora.path:
        files |= files_of(run.config.lora.path, Path(run.config.lora.path), WANTED)
    return _read(run, files, known, weights=True)


def _rater(run: Run, stage: str, known: dict[str, Print]) -> dict[str, Print]:
    """The public process reward model that rates the steps of the stage's responses."""
    path = run.config.prm.path
    if stage not in ("improve", "ppo") or not path:
        return {}
    return _read(run, files_of(path, open_checkpoint(path).path, WANTED), known, weights=True)


def _stages(run: Run, stage: str, known: dict[str, Print]) -> dict[str, Print]:
    """The checkpoints of the stages before it, here or in the base, that it starts from.

    One that is damaged, or that its stage goes on to from an earlier one, counts as it was: what reads it has words for
    that.
    """
    prm = run.config.prm
    needs: dict[str, list[str]] = {
        "sft": [],
        "prm": [] if prm.data and not prm.from_sft else ["sft"],
        "improve": ["sft", "prm"] if run.config.search.prm in PRM_SCORERS and not prm.path else ["sft"],
        "ppo": ["sft"] if prm.path else ["sft", "prm"],
    }
    found = {}
    for need in needs[stage.partition("_")[0]]:  # a study's own models, as `prm_hard`, start as their stage does
        newest = origin.newest(run.checkpoint_folder(need))
        if newest is None and (base := base_of(run.config, need)):
            newest = origin.newest(Path(base) / "checkpoints" / need)
        if newest is not None:
            step, folder = newest
            name = f"stage {need}"
            before, now = known.get(name), {"step": step, **folder_print(folder, without=fmt.is_beside)}
            unfinished = before is not None and step < before["step"]
            found[name] = before if before is not None and (unfinished or _damaged(folder, before, now)) else now
        elif f"stage {need}" in known and fmt.steps(run.checkpoint_folder(need)):  # damaged ones
            found[f"stage {need}"] = known[f"stage {need}"]
    return found


def _damaged(folder: Path, before: Print, now: Print) -> bool:
    """Whether a checkpoint differs because it cannot be read; a large one is not tried, nor on several processes."""
    changed = (before["size"], before["sha256"]) != (now["size"], now["sha256"])
    return changed and now["size"] < TRIED and jax.process_count() == 1 and not is_readable(folder)


def _read(run: Run, files: dict[str, Path], known: dict[str, Print], *, weights: bool) -> dict[str, Print]:
    """Fingerprints of files; each is read once in a command."""
    missing = {name: path for name, path in files.items() if name not in run.prints}
    run.prints.update(prints_of(missing, weights=weights, known=known))
    return {name: run.prints[name] for name in files}


_KINDS: dict[str, Callable[[Run, str, dict[str, Print]], dict[str, Print]]] = {
    "code": _code,
    "release": _release,
    "tokenizer": _tokenizer,
    "model": _model,
    "stages": _stages,
    "data": _data,
    "rater": _rater,
}
