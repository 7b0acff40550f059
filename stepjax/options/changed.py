"""`stepjax options --changed`: the options of a config or a work directory that differ from the defaults."""

import functools
import shlex
from collections.abc import Iterator
from typing import Any

from stepjax.config import Config, StreamOptions, options_of
from stepjax.options.names import STREAMS


def changed_lines(config: Config, part: str = "") -> list[str]:
    """A line for each differing option whose name contains `part`: as a shell takes it, with the default behind."""
    lines = [
        (_quoted(f"--config.{name}={value if isinstance(value, str) else repr(value)}"), default)
        for name, value, default in changed(config)
        if part.lower() in name.lower()
    ]
    width = min(max((len(line) for line, _ in lines), default=0), 60)
    return [f"{line:<{width}}  # default: {default}" if default else line for line, default in lines]


def _quoted(argument: str) -> str:
    """As a shell takes it; texts in a tuple keep their own quotes readable."""
    return f'"{argument}"' if "'" in argument and not set(argument) & set('"$`\\!') else shlex.quote(argument)


def changed(config: Config) -> Iterator[tuple[str, Any, str]]:
    """Name, value and default (as text) of each option that differs. A stream of the defaults that is not there has the
    value `none`; a new stream's signal always differs from nothing."""
    plain = Config()
    for name, _ in options_of(Config):
        value, default = (_value(of, name) for of in (config, plain))
        if f"{name}." == STREAMS:
            yield from _changed_streams(value, default)
        elif value != default:
            yield name, value, repr(default)


def _value(config: Config, name: str) -> Any:
    return functools.reduce(getattr, name.split("."), config)


def _changed_streams(
    streams: dict[str, StreamOptions], defaults: dict[str, StreamOptions]
) -> Iterator[tuple[str, Any, str]]:
    for name in defaults.keys() - streams.keys():
        yield f"{STREAMS}{name}", "none", "there is one"
    for name, options in streams.items():
        default = defaults.get(name, StreamOptions())
        for field, _ in options_of(StreamOptions):
            value, plain = getattr(options, field), getattr(default, field)
            if name not in defaults and field == "signal":
                yield f"{STREAMS}{name}.{field}", value, ""
            elif value != plain:
                yield f"{STREAMS}{name}.{field}", value, repr(plain)
