"""Reward streams that the command line adds or removes: `--config.ppo.streams.NAME.signal=…`, `….NAME=none`."""

import re
from collections.abc import Callable, Sequence

from ml_collections import ConfigDict

from stepjax.errors import UserError, nearest
from stepjax.options.names import STREAMS
from stepjax.options.recipes import stream

NONE = "none"


def edit_streams(config: ConfigDict, arguments: Sequence[str], tell: Callable[[str], object]) -> list[str]:
    """Adds and removes streams of `config`, in the order of the arguments; returns the arguments that are left.

    A name that is not there yet is a new stream only where the line names its signal, too: any other option of such a
    name is more likely a misspelled one. `tell` takes a line for each new stream.

    Raises:
      UserError: a stream that is to be removed is not there, or a new one has a name that no option can have.
    """
    streams = config.ppo.streams
    if not isinstance(streams, ConfigDict):
        return list(arguments)  # from_dict says what is wrong with it
    begun = {parts[0] for a in arguments if (parts := _parts(a))[1:2] == ["signal"]}
    left, added = [], []
    for argument in arguments:
        parts = _parts(argument)
        if not parts or not parts[0]:
            left.append(argument)
        elif len(parts) == 1 and argument.partition("=")[2].strip().lower() == NONE:
            _remove(streams, parts[0])
        else:
            if parts[0] in begun and parts[0] not in streams:
                added.append(_add(streams, parts[0]))
            left.append(argument)
    if added:
        tell(f"reward streams: {', '.join(f'{name} (new)' if name in added else name for name in streams)}")
    return left


def _parts(argument: str) -> list[str]:
    """["outcome", "signal"] of `--config.ppo.streams.outcome.signal=…`; [] of other arguments."""
    match = re.match(rf"--?config\.{re.escape(STREAMS)}([^=]*)=", argument)
    return match[1].split(".") if match else []


def _remove(streams: ConfigDict, name: str) -> None:
    if name not in streams:
        raise UserError(f"--config.{STREAMS}{name}={NONE}: no such reward stream{nearest(name, streams)}")
    with streams.unlocked():
        del streams[name]


def _add(streams: ConfigDict, name: str) -> str:
    if not re.fullmatch(r"[\w-]+", name):
        raise UserError(f"--config.{STREAMS}{name}: a stream's name has letters, digits, _ and - alone")
    with streams.unlocked():
        streams[name] = stream()
    return name
