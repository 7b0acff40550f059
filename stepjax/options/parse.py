"""From files and command lines to a `Config`: ml_collections underneath, one clear line for every mistake."""

import contextlib
import io
import re
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags

from stepjax.config import Config
from stepjax.errors import UserError, nearest
from stepjax.options.explain import explain
from stepjax.options.names import full_name
from stepjax.options.recipes import from_dict
from stepjax.options.saved import CONFIG, remembered
from stepjax.options.stream_edits import edit_streams

MOST_BITS = 4096
"""Of a whole number in a config; Python writes out numbers of up to 4,300 digits."""


class Parsed(NamedTuple):
    """A command line, read.

    Attributes:
      config: all options, those of the command line in the place of those of the config file.
      workdir: the work directory; None where the command line names none.
    """

    config: Config
    workdir: Path | None


def find_config(name: str) -> Path:
    """A config file: a path, or the bare name of one that comes with stepjax (`quickstart`, `rules/papo`)."""
    package = Path(__file__).parents[1]
    folders = [package / "configs", package.parent / "configs"]
    candidates = [Path(name)]
    if "/" not in name:
        candidates += [folder / f"{Path(name).stem}.py" for folder in folders]
    elif re.fullmatch(r"rules/\w+(\.py)?", name):
        candidates += [folder / "rules" / f"{Path(name).stem}.py" for folder in folders]
    for path in candidates:
        if path.is_file():
            return path
    known = sorted(p.stem for folder in folders if folder.is_dir() for p in folder.glob("*.py"))
    known += sorted(f"rules/{p.stem}" for folder in folders if folder.is_dir() for p in folder.glob("rules/*.py"))
    raise UserError(f"--config={name}: no such file{nearest(name, known)}")


def parse(
    argv: Sequence[str],
    section: str = "",
    *,
    default: str = "quickstart",
    remember: bool = False,
    home: Path | None = None,
    forget: tuple[str, ...] = (),
    tell: Callable[[str], object] = lambda line: None,
) -> Parsed:
    """Reads `--config`, `--config.a.b=value` and `--workdir` from a command line.

    The options are those of the file that `--config` names; without it those of the work directory, where it has some
    and they are to `remember`, else those of the config file `default`. The others on the line change single ones.

    Args:
      section: the section whose options may be written short, `--config.b=value` for `--config.section.b=value`,
        where the short name is not that of another option; "": no section's.
      default: the config file where nothing else names one.
      remember: the options of a work directory count.
      home: the work directory where the command line names none; None: there is none.
      forget: sections that are not taken from a work directory.
      tell: takes lines that say where the options come from and which reward streams are new.

    Raises:
      UserError: one line for a name or value that is wrong, or for an argument that is not an option.
    """
    file, changes = _config_first(argv)
    workdir = _workdir(changes)
    full = [_in_full(a, section) for a in changes]
    at = home if workdir is None else Path(workdir)
    if file or not remember or at is None or not (at / CONFIG).is_file():
        file = file or f"--config={find_config(default)}"
        config = _read(file, section)
    else:
        config = remembered(at, tell, forget)
    full = edit_streams(config, full, tell)
    changed = _changed(config, full, [file, *full] if file else full, section)
    return Parsed(from_dict(changed), Path(workdir) if workdir is not None else None)


def _read(file: str, section: str) -> ConfigDict:
    """What the config file of the argument `file` returns."""
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=["stepjax", file])
    with _explained([file], section), _read_afresh():
        values(["stepjax", file])
        config = values.config
        if not isinstance(config, ConfigDict | types.FunctionType):
            getattr(config, "lock", None)  # the flag library keeps an OSError of the file until it is looked at
    if not isinstance(config, ConfigDict):
        raise UserError("the config file's get_config() must return stepjax.options.recipe(), changed or not")
    _check_sizes(config)
    return config


def _check_sizes(config: ConfigDict, name: str = "config", around: tuple[ConfigDict, ...] = ()) -> None:
    """UserError for a number too long to be written out, as everything that shows a config would have to do.

    A section inside of itself (`around`: those that hold this one) is passed over: it is refused elsewhere.
    """
    if any(config is other for other in around):
        return
    for key, value in config.items(preserve_field_references=True):
        if isinstance(value, ConfigDict):
            _check_sizes(value, f"{name}.{key}", (*around, config))
        elif isinstance(value, int) and value.bit_length() > MOST_BITS:
            raise UserError(f"{name}.{key}: a whole number of more than {MOST_BITS} bits")


def _changed(config: ConfigDict, changes: Sequence[str], typed: Sequence[str], section: str) -> ConfigDict:
    """The config with the options of the command line in the place of its own; `typed`: the line, for errors."""
    values = flags.FlagValues()
    flags.DEFINE_string("workdir", None, "the work directory", flag_values=values)
    with _explained(typed, section):
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=["stepjax", *changes])
        rest = values(["stepjax", *changes])[1:]
    no_more(rest)
    found: ConfigDict = values.config
    return found


@contextlib.contextmanager
def _explained(typed: Sequence[str], section: str) -> Iterator[None]:
    """What the flag library or a config file raises becomes one line."""
    try:
        # The flag library prints its own report of a broken config file: ours is the one line that counts.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a config file may raise anything, and may end the program
        raise UserError(explain(typed, section, error)) from error


@contextlib.contextmanager
def _read_afresh() -> Iterator[None]:
    """The config file is read as it is now.

    Python keeps no compiled copy of it, which would be taken for a file that is edited within the same second, and the
    flag library's module has no names of a config that was read before.
    """
    sys.modules.pop("config_config", None)
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


def no_more(rest: Sequence[str], known: str = "Options are written --config.name=value") -> None:
    """UserError where arguments are left that a command does not take; `known` says which ones it takes."""
    if rest:
        raise UserError(f"what is {rest[0]!r}? {known}")


def _in_full(argument: str, section: str) -> str:
    name, equals, value = argument.partition("=")
    dashes, config, option = name.partition("config.")
    if not config or dashes not in ("-", "--"):
        return argument
    return f"{dashes}{config}{full_name(option, section)}{equals}{value}"


def _config_first(argv: Sequence[str]) -> tuple[str, list[str]]:
    """`--config=FILE` ("" where there is none), and the other arguments. It may be written with a space, too, and the
    last one counts."""
    name: str | None = None
    others, rest = [], iter(argv)
    for argument in rest:
        if argument.startswith("--config="):
            name = argument.removeprefix("--config=")
        elif argument == "--config":
            name = next(rest, "")
        elif re.match(r"--?(flagfile|undefok)\b", argument):  # the flag library's own, which stepjax does not offer
            raise UserError(f"{argument}: no such option{nearest(argument.lstrip('-'), ['config', 'workdir'])}")
        else:
            others.append(argument)
    if name is None:
        return "", others
    if not name or name.startswith("-"):
        raise UserError("--config: name a config file, as in --config=quickstart")
    file, _, tail = name.partition(":")
    return f"--config={find_config(file)}" + (f":{tail}" if tail else ""), others


def _workdir(arguments: Sequence[str]) -> str | None:
    """The work directory that the arguments name; None: they name none. The last one counts."""
    found: str | None = None
    rest = iter(arguments)
    for argument in rest:
        if re.fullmatch(r"--?workdir", argument):
            found = next(rest, None)  # where nothing follows, the flag library says so
        elif re.match(r"--?workdir=", argument):
            found = argument.partition("=")[2]
    if found == "":
        raise UserError("--workdir=: name a folder")
    return found
