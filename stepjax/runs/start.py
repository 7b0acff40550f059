"""A run that starts from a pretrained checkpoint (`config.model.path`): shape, weights, and files for exports."""

import json
from pathlib import Path
from typing import Any

from stepjax.config import Config, ModelOptions
from stepjax.console.progress import say
from stepjax.errors import UserError
from stepjax.models.checkpoint_folder import CheckpointFolder, open_checkpoint
from stepjax.runs.base import SHAPE
from stepjax.token_bytes import special_contents
from stepjax.workdir.json_file import write_json

SOURCE = "start.json"
"""In a work directory: config.json and generation_config.json of the checkpoint that the run started from."""


def open_start(config: Config) -> CheckpointFolder | None:
    """The checkpoint of `config.model.path`, which decides the shape; UserError where it cannot be loaded."""
    if not config.model.path:
        return None
    start = open_checkpoint(config.model.path)
    plain = ModelOptions()
    changed = [name for name in SHAPE if name != "path" and getattr(config.model, name) != getattr(plain, name)]
    if changed:  # a config for training from scratch, with a checkpoint named on the command line
        names = f"config.model.{', '.join(changed)} {'give' if len(changed) > 1 else 'gives'} way"
        say(f"the checkpoint of config.model.path decides the shape; {names} to it")
    _ = start.decoder, start.tensors, start.ends  # what is wrong with them is said now
    return start


def entries_of(tokenizer: Any, start: CheckpointFolder) -> int:
    """One more than the tokenizer's largest id; UserError where the embedding has fewer rows."""
    most = max(tokenizer.get_vocab().values()) + 1
    rows = start.decoder.vocab
    if most > rows:
        raise UserError(
            f"config.model.path={start.name}: the tokenizer has ids up to {most - 1}, the embedding only {rows} rows; "
            "name the tokenizer that belongs to the checkpoint in config.tokenizer.path"
        )
    return most


def ends_of(config: Config, tokenizer: Any, start: CheckpointFolder) -> tuple[int, ...]:
    """The ids at which the checkpoint ends a response.

    With another tokenizer (`config.tokenizer.path`), those that are special tokens there: any other id would be a piece
    of text.
    """
    if not config.tokenizer.path:
        return start.ends
    contents = special_contents(tokenizer)
    return tuple(i for i in start.ends if tokenizer.convert_ids_to_tokens(i) in contents)


def remember(start: CheckpointFolder, workdir: Path) -> None:
    """Writes the checkpoint's files that an export needs besides the weights, once."""
    path = workdir / SOURCE
    if path.exists():
        return
    kept = {} if start.generation_config is None else {"generation_config": dict(start.generation_config)}
    write_json(path, {"path": start.name, "config": dict(start.config), **kept})


def recall(workdir: Path) -> dict[str, Any] | None:
    """The contents written by `remember`; None in a run from scratch."""
    path = workdir / SOURCE
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict) and isinstance(found.get("config"), dict):
            return found
    except (ValueError, RecursionError):
        pass
    raise UserError(f"{path}: not what stepjax writes; copy it from a backup, or start again in another --workdir")
