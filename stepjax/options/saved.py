"""The options of a work directory, as its config.json keeps them: what later commands of the run start from."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from stepjax.config import Config, StreamOptions, options_of
from stepjax.errors import UserError
from stepjax.options.names import STREAMS
from stepjax.options.recipes import as_config_dict, from_dict

CONFIG = "config.json"


class Saved(NamedTuple):
    """Options that were saved.

    Attributes:
      config: all of them; those that the file lacks have their default.
      gone: dotted names in the file that this version does not have, and which are left out.
    """

    config: ConfigDict
    gone: list[str]


def read_saved(path: Path) -> Saved:
    """Reads a config.json. UserError where it cannot be read, or an option in it has a value that is not possible."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("not a JSON object")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); name a work directory with --workdir") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({error}); repair it, or use another --workdir") from None
    known = {name for name, _ in options_of(Config)}
    gone: list[str] = []
    kept = _known(found, known, "", gone)
    try:
        config = as_config_dict(from_dict(kept))
    except UserError as error:
        raise UserError(f"{path}: {error}; repair it, or name the options with --config=FILE") from None
    return Saved(config, gone)


def _known(found: Mapping[str, Any], known: set[str], prefix: str, gone: list[str]) -> dict[str, Any]:
    """The part of a tree of options that this version has; the names of the others go to `gone`."""
    kept: dict[str, Any] = {}
    fields = {name for name, _ in options_of(StreamOptions)}
    for key, value in found.items():
        name = f"{prefix}{key}"
        if f"{name}." == STREAMS and isinstance(value, dict):
            kept[key] = {
                stream: _known(of, {f"{name}.{stream}.{f}" for f in fields}, f"{name}.{stream}.", gone)
                if isinstance(of, dict)
                else of
                for stream, of in value.items()
            }
        elif name in known:
            kept[key] = value
        elif isinstance(value, dict) and any(option.startswith(f"{name}.") for option in known):
            kept[key] = _known(value, known, f"{name}.", gone)
        else:
            gone.append(name)
    return kept


def remembered(workdir: Path, tell: Callable[[str], object], forget: tuple[str, ...] = ()) -> ConfigDict:
    """The options of a work directory, with a line that says so; the sections `forget` have their defaults.

    UserError as in `read_saved`.
    """
    path = workdir / CONFIG
    saved = read_saved(path)
    gone = f"; without {', '.join(saved.gone)}, which this version does not have" if saved.gone else ""
    tell(f"options: those of {path}{gone}")
    plain = as_config_dict(Config())
    for section in forget:
        saved.config[section] = plain[section]
    return saved.config
