"""Step-labelled solutions for evaluation: read from files, matched, divided."""

import dataclasses
import hashlib
from collections.abc import Sequence

from stepjax.config import Config
from stepjax.console.progress import say
from stepjax.data import readers
from stepjax.data.dataset import Records
from stepjax.data.readers.base import Tally
from stepjax.data.schema import LabelledSolution
from stepjax.errors import UserError


def read_records(paths: str, where: str, config: Config | None = None) -> list[LabelledSolution]:
    """The records of one or several places (commas between); `where` names the option in errors.

    A folder that `stepjax data` wrote, a JSONL file of records, or what `eval.source` says.

    Raises:
      UserError: names the file and line of a row that is no record, or the option where there is no record at all.
    """
    config = config or Config()
    options, found, tally = config.eval, list[LabelledSolution](), Tally()
    for path in filter(None, (part.strip() for part in paths.split(","))):
        if options.source == "records":
            found += Records(path, options.data_split)
        else:
            reading = dataclasses.replace(config.data, source=options.source, path=path)
            found += readers.read_records(reading, tally)
    for what, count in sorted(tally.dropped.items()):
        say(f"{where}: {count} {what}")
    if not found:
        raise UserError(f"{where}={paths}: there is no step-labelled solution in it")
    return found


def match(
    found: Sequence[LabelledSolution],
    gold: Sequence[LabelledSolution],
    options: tuple[str, str] = ("config.eval.data", "config.eval.gold"),
) -> list[tuple[int, int]]:
    """Pairs (i, j) of records of one solution: by id where both files name all their rows, else by problem and steps.

    `options` name the two files in errors.

    Raises:
      UserError: two rows of a file have the same id, or the same problem and steps; or matched rows differ in steps.
    """
    by_id = all(r.id for r in (*found, *gold))
    keys = [[(r.id,) if by_id else (r.group_key, *map(_text, r.steps)) for r in records] for records in (found, gold)]
    for name, of_file in zip(options, keys, strict=True):
        if len(set(of_file)) < len(of_file):
            twice = next(key for key in of_file if of_file.count(key) > 1)
            what = f"id {twice[0]!r}" if by_id else f"problem {twice[0][:40]!r} with the same steps"
            raise UserError(f"{name}: two rows have the {what}")
    place = {key: j for j, key in enumerate(keys[1])}
    pairs = [(i, place[key]) for i, key in enumerate(keys[0]) if key in place]
    for i, j in pairs:
        if len(found[i].steps) != len(gold[j].steps):
            here, there = len(found[i].steps), len(gold[j].steps)
            raise UserError(f"{options[0]}: id {found[i].id!r} has {here} steps, in {options[1]} {there}")
    return pairs


def _text(step: str) -> str:
    return " ".join(step.split())


def is_tuning(group: str, share: float) -> bool:
    """Whether a problem belongs to the part that thresholds are tuned on: by a hash, the same on every machine."""
    digest = hashlib.sha256(f"threshold\0{group}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / (1 << 48) < share
