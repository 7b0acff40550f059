"""Options between dataclasses and the `ConfigDict` that a config file changes."""

import dataclasses
import math
import typing
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from stepjax.config import Config, StreamOptions
from stepjax.config.option import kind_in_words, refusal
from stepjax.errors import UserError, nearest
from stepjax.options.names import removed


def recipe(**sections: Any) -> ConfigDict:
    """All options at their defaults, as the `ConfigDict` that a config file changes and returns.

    UserError for an unknown section or option.
    """
    return as_config_dict(_made(Config, sections, "recipe"))


def stream(**changes: Any) -> ConfigDict:
    """One reward stream for `config.ppo.streams`. UserError for an unknown option."""
    return as_config_dict(_made(StreamOptions, changes, "stream"))


def _made(cls: type, changes: dict[str, Any], function: str) -> Any:
    known = [field.name for field in dataclasses.fields(cls)]
    for name in changes:
        if name not in known:
            raise UserError(f"{function}({name}=…): no such option{nearest(name, known)}")
    return cls(**changes)


def as_config_dict(value: Any) -> Any:
    """A section (or the value of an option) with `ConfigDict`s in the place of dataclasses and dictionaries."""
    if dataclasses.is_dataclass(value):
        return ConfigDict({f.name: as_config_dict(getattr(value, f.name)) for f in dataclasses.fields(value)})
    if isinstance(value, dict):
        return ConfigDict({k: as_config_dict(v) for k, v in value.items()})
    return value


def from_dict(values: Mapping[str, Any], cls: type = Config, where: str = "config") -> Any:
    """A `Config` from a (nested) mapping; UserError for an unknown name, with the closest match, or a wrong type."""
    if not isinstance(values, Mapping | ConfigDict):
        form = "stream(signal='outcome')" if cls is StreamOptions else "{'option': value}"
        raise UserError(f"{where}: must be a section with options, as {form}, not {_shown(values)}")
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    found = {}
    for name, value in values.items():
        if gone := removed(f"{where}.{name}".removeprefix("config.")):
            raise UserError(f"{where}.{name}: {gone}")
        if name not in hints:
            raise UserError(f"{where}.{name}: no such option{nearest(str(name), hints)}")
        found[name] = _convert(value, hints[name], f"{where}.{name}")
        if why := refusal(fields[name], found[name]):
            raise UserError(f"{where}.{name}: {why}")
    return cls(**found)


def _convert(value: Any, kind: Any, where: str) -> Any:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return from_dict(value, kind, where)  # type: ignore[arg-type]
    if origin is dict:
        if not isinstance(value, Mapping | ConfigDict):
            raise UserError(f"{where}: must be a dictionary, not {_shown(value)}")
        return {str(k): _convert(v, args[1], f"{where}.{k}") for k, v in value.items()}
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise UserError(f"{where}: must be {kind_in_words(kind)}, not {_shown(value)}")
        kinds = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
        if len(kinds) != len(value):
            raise UserError(f"{where}: must have {len(kinds)} entries, not {len(value)}")
        return tuple(_convert(v, k, where) for v, k in zip(value, kinds, strict=True))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) < 2**1023 else math.inf
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise UserError(f"{where}: must be {kind_in_words(kind)}, not {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}…"
