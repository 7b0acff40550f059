"""From files and command lines to a `Config`: ml_collections underneath, one clear line for every mistake."""

import contextlib
import io
import re
import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags

from stepjax.config import Config
from stepjax.errors import UserError, nearest
from stepjax.options.explain import explain
from stepjax.options.names import full_name
from stepjax.options.recipes import from_dict


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


def parse(argv: Sequence[str], section: str = "", *, default: str = "quickstart") -> Parsed:
    """Reads `--config`, `--config.a.b=value` and `--workdir` from a command line.

    Args:
      section: the section whose options may be written short, `--config.b=value` for `--config.section.b=value`,
        where the short name is not that of another option; "": no section's.
      default: the config file where the command line names none.

    Raises:
      UserError: one line for a name or value that is wrong, or for an argument that is not an option.
    """
    file, changes = _config_first(argv, default)
    full = [file, *(_in_full(a, section) for a in changes)]
    values = flags.FlagValues()
    flags.DEFINE_string("workdir", None, "the work directory", flag_values=values)
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=["stepjax", *full])
    try:
        # The flag library prints its own report of a broken config file: ours is the one line that counts.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), _read_afresh():
            rest = values(["stepjax", *full])[1:]
            config = values.config
            if not isinstance(config, ConfigDict | types.FunctionType):
                getattr(config, "lock", None)  # the flag library keeps an OSError of the file until it is looked at
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a config file may raise anything, and may end the program
        raise UserError(explain(full, section, error)) from error
    no_more(rest)
    if values.workdir == "":
        raise UserError("--workdir=: name a folder")
    if isinstance(config, types.FunctionType) or not isinstance(config, ConfigDict):
        raise UserError("the config file's get_config() must return stepjax.options.recipe(), changed or not")
    return Parsed(from_dict(config), Path(values.workdir) if values.workdir is not None else None)


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


def _config_first(argv: Sequence[str], default: str) -> tuple[str, list[str]]:
    """`--config=FILE`, and the other arguments. The flag library reads it before the options that change it; it may be
    written with a space, too, and the last one counts."""
    name, others, rest = default, [], iter(argv)
    for argument in rest:
        if argument.startswith("--config="):
            name = argument.removeprefix("--config=")
        elif argument == "--config":
            name = next(rest, "")
        elif re.match(r"--?(flagfile|undefok)\b", argument):  # the flag library's own, which stepjax does not offer
            raise UserError(f"{argument}: no such option{nearest(argument.lstrip('-'), ['config', 'workdir'])}")
        else:
            others.append(argument)
    if not name or name.startswith("-"):
        raise UserError("--config: name a config file, as in --config=quickstart")
    file, _, tail = name.partition(":")
    return f"--config={find_config(file)}" + (f":{tail}" if tail else ""), others
