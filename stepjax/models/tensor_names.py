"""Names of a checkpoint's tensors: as the family has them, whatever was saved, and each of them used or refused."""

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from stepjax.errors import UserError
from stepjax.models.safetensors_file import Entry

PREFIX = "model."
"""Of the trunk's tensors in every family."""

EMBEDDING, UNEMBEDDING = "model.embed_tokens.weight", "lm_head.weight"

_TRUNK = ("embed_tokens.", "layers.", "norm.")

HARMLESS = ("rotary_emb.inv_freq",)
"""Ends of names whose tensors config.json determines: older software stored the rotary positions' frequencies."""

_SHOWN = 3
_BLOCK = 1 << 24


def family_names(folder: Path, stored: Mapping[str, Entry], wrapper: str = "") -> dict[str, Entry]:
    """The tensors by their family's names.

    As transformers does, `model.` is added to what a model without a head saved (`layers.0. …`), and taken away where
    it stands twice.

    Args:
      wrapper: a prefix that is taken away first.

    Raises:
      UserError: two tensors have the same name then.
    """
    found: dict[str, Entry] = {}
    of: dict[str, str] = {}
    for name, entry in stored.items():
        own = _family_name(name.removeprefix(wrapper))
        if own in found:
            raise UserError(
                f"{folder}: tensors {of[own][:100]} and {name[:100]} are both {own[:100]}; leave one of them out"
            )
        found[own], of[own] = entry, name
    return found


def _family_name(name: str) -> str:
    bare = name.removeprefix(PREFIX)
    if bare.startswith(tuple(PREFIX + part for part in _TRUNK)) or bare == UNEMBEDDING:
        return bare
    return PREFIX + name if name.startswith(_TRUNK) else name


def check_names(
    folder: Path,
    found: Collection[str],
    wanted: Collection[str],
    unread: tuple[str, ...] = (),
    described: str = "config.json",
) -> None:
    """UserError where a wanted tensor is missing, or where one is left over.

    Args:
      found: the names in the checkpoint; wanted: those that the model has.
      unread: beginnings of names that may be left over: heads that this model does not read.
      described: what describes the model.
    """
    if missing := sorted(name for name in wanted if name not in found):
        raise UserError(
            f"{folder}: tensor {missing[0]} is missing{_others(missing, 'so are')}{_why(missing[0], found)}"
        )
    rest = set(found).difference(wanted)
    left = [n for n in found if n in rest and not n.endswith(HARMLESS) and not n.startswith(unread)]
    if left:
        raise UserError(
            f"{folder}: tensor {left[0][:100]} has no place in the model that {described} describes"
            f"{_others(left, 'neither have')}; correct {described}, or write the checkpoint again without it"
        )


def _others(names: list[str], also: str) -> str:
    """`, and so are b, c and 5 more`, of all but the first."""
    if len(names) == 1:
        return ""
    shown = ", ".join(name[:100] for name in names[1:_SHOWN])
    return f", and {also} {shown}" + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _why(name: str, found: Collection[str]) -> str:
    """What is there in place of a tensor, and what to do."""
    if name == UNEMBEDDING:
        return (
            ": config.json unties the embeddings (tie_word_embeddings), and there is no output embedding; name a "
            "folder with one, or tie them in config.json if they were trained so"
        )
    other = next((n for n in found if n.endswith(f".{name}") or n.endswith(f".{name.removeprefix(PREFIX)}")), None)
    if other is None or not name.startswith(PREFIX):
        return ""
    return f", but {other[:100]} is there; write the language model alone, under its own names"


def differ(first: Entry, second: Entry) -> bool:
    """Whether two tensors hold other numbers or have another shape; read block by block."""
    if first.shape != second.shape:
        return True
    found: list[bool] = []

    def compare(a: np.ndarray, b: np.ndarray) -> None:
        rows = max(_BLOCK // max(a[:1].size, 1), 1)
        for at in range(0, len(a), rows):
            x, y = a[at : at + rows], b[at : at + rows]
            same = x.dtype == y.dtype and x.tobytes() == y.tobytes()
            if not same and not np.array_equal(x.astype(np.float32), y.astype(np.float32)):
                found.append(True)
                return

    first.visit(lambda a: second.visit(lambda b: compare(a, b)))
    return bool(found)
