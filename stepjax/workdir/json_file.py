"""JSON files that are written whole or not at all."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stepjax.errors import UserError
from stepjax.parallel import is_main_process

MEASURES = "measures"
"""Key in eval.json of the evaluations of labels and reward models; the other keys are those of the policies."""


def read_json(path: Path) -> dict[str, Any]:
    """The object that a file holds; empty where there is no file or no object in it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def plain(value: Any) -> Any:
    """The value in JSON's types: NumPy and JAX scalars as numbers, arrays as lists, NaN and infinities as null."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    array = np.asarray(value)
    if array.dtype.kind not in "biufU":  # bfloat16 and its kin are none of NumPy's kinds
        array = array.astype(np.float64)
    return plain(array.tolist())


def write_json(path: Path, found: dict[str, Any]) -> None:
    """Writes beside the file and renames; UserError where it cannot be written. Of several processes, 0 writes."""
    if not is_main_process():
        return
    partial = path.with_suffix(".json.partial")
    try:
        partial.write_text(json.dumps(found, indent=1) + "\n")
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
