"""Figures as a JSON file that is there whole or not at all."""

import json
import os
from pathlib import Path
from typing import Any

from stepjax.errors import UserError


def write_json(path: Path, found: dict[str, Any]) -> None:
    """Writes beside the file and renames; UserError where it cannot be written."""
    partial = path.with_suffix(".json.partial")
    try:
        partial.write_text(json.dumps(found, indent=1) + "\n")
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
