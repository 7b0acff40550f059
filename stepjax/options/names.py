"""Names of options: dotted in full, short in the command of their section, and the closest match to a wrong one."""

import dataclasses
import difflib
import functools
from collections.abc import Iterable

from stepjax.config import REMOVED, Config, StreamOptions, options_of

STREAMS = "ppo.streams."
"""What the options of a stream begin with: `ppo.streams.NAME.weight`, the NAME being the user's."""

COMMANDS = ("sft", "prm", "improve", "ppo", "export", "eval", "data", "label", "bench", "sample", "search")
"""Sections with a command of the same name, in which their options may be written short."""


def removed(name: str) -> str | None:
    """What to say of an option that there was; None where there was none of this name."""
    return f"there is no such option any more: {REMOVED[name]}; leave it out" if name in REMOVED else None


@functools.cache
def all_names() -> tuple[str, ...]:
    """The dotted name of every option, with `NAME` for the name of a reward stream."""
    streams = [name for name, _ in options_of(StreamOptions, f"{STREAMS}NAME.")]
    return (*(name for name, _ in options_of(Config)), *streams)


def is_option(name: str) -> bool:
    """True for the full name of an option; a reward stream may have any name."""
    return name in all_names() or (name.startswith(STREAMS) and name.rpartition(".")[2] in _stream_fields())


def type_of(name: str) -> type:
    """The type of the option with this full name."""
    field = name.rpartition(".")[2]
    known = options_of(StreamOptions) if name.startswith(STREAMS) else options_of(Config)
    return next(f.type for full, f in known if full == (field if name.startswith(STREAMS) else name))  # type: ignore[return-value]


def is_section(name: str) -> bool:
    """True for the name of a section: `ppo`, `ppo.policy`, or a reward stream, `ppo.streams.NAME`."""
    stream = name.startswith(STREAMS) and name.count(".") == STREAMS.count(".")
    return stream or any(option.startswith(f"{name}.") for option in all_names())


def short_name(name: str, section: str) -> str | None:
    """How the command of a section may shorten the full name of an option: `ppo.epochs` → `epochs`.

    None: not at all, because the option is of another section or because the short name is that of another option.
    """
    short = name.removeprefix(f"{section}.")
    return None if short == name or is_option(short) else short


def full_name(name: str, section: str) -> str:
    """The full name of an option that may be written short in the command of a section; other names as they are."""
    longer = f"{section}.{name}"
    # A stream's option is lengthened even if it is misspelled: its error then names the stream.
    short = is_option(longer) or longer.startswith(STREAMS)
    return longer if section and short and not is_option(name) else name


def closest(name: str, section: str) -> str:
    """' (did you mean …?)': the likeliest names for one that is wrong, those of the command's section first."""
    if name.startswith(STREAMS):
        stream, _, field = name.rpartition(".")
        return _suggestion(f"{stream}.{match}" for match in difflib.get_close_matches(field, _stream_fields(), n=1))
    own = [short_name(n, section) or n for n in all_names() if section and n.startswith(f"{section}.")]
    for known in (own, all_names()):
        if ends := [n for n in known if n.endswith(f".{name}")]:
            least = min(n.count(".") for n in ends)  # one that lies deeper is seldom meant
            return _suggestion(n for n in ends if n.count(".") == least)
    return _suggestion(difflib.get_close_matches(name, (*own, *all_names()), n=1))


def _suggestion(names: Iterable[str]) -> str:
    *most, last = [f"'--config.{name}'" for name in names] or [""]
    if not last:
        return "; `stepjax options` lists all options"
    return f" (did you mean {', '.join(most)} or {last}?)" if most else f" (did you mean {last}?)"


def _stream_fields() -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(StreamOptions))
