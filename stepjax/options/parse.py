"""From files and command lines to a `Config`: ml_collections underneath, one clear line for every mistake."""

import contextlib
import io
import traceback
import types
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from stepjax.config import Config, options_of
from stepjax.errors import UserError, nearest
from stepjax.options.recipes import from_dict


def find_config(name: str) -> Path:
    """A config file: a path, or the bare name of one that comes with stepjax (`quickstart`, `gsm8k_scratch`)."""
    package = Path(__file__).parents[1]
    folders = [package / "configs", package.parent / "configs"]
    candidates = [Path(name)] + [folder / f"{Path(name).stem}.py" for folder in folders if "/" not in name]
    for path in candidates:
        if path.is_file():
            return path
    known = sorted(p.stem for folder in folders if folder.is_dir() for p in folder.glob("*.py"))
    raise UserError(f"--config={name}: no such file{nearest(name, known)}")


def parse(argv: list[str], default: str) -> tuple[Config, Path | None, list[str]]:
    """Reads `--config`, `--config.a.b=value` and `--workdir` from a command line.

    Returns:
      the config, the work directory (None where it was not named) and the arguments that are no options.
    """
    argv = [_resolve(a) for a in argv]
    if not any(a == "--config" or a.startswith("--config=") for a in argv):
        argv = [f"--config={find_config(default)}", *argv]
    values = flags.FlagValues()
    flags.DEFINE_string("workdir", None, "the work directory", flag_values=values)
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=["stepjax", *argv])
    try:
        # The flag library prints its own report of a broken config file: ours is the one line that counts.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            rest = values(["stepjax", *argv])[1:]
            config = values.config
    except Exception as error:  # a config file may raise anything
        raise UserError(_explain(argv, error)) from error
    if isinstance(config, types.FunctionType) or not isinstance(config, ConfigDict):
        raise UserError("the config file's get_config() must return stepjax.options.recipe(), changed or not")
    workdir = Path(values.workdir) if values.workdir is not None else None
    return from_dict(config), workdir, rest


def _resolve(argument: str) -> str:
    if argument.startswith("--config="):
        name, _, tail = argument.removeprefix("--config=").partition(":")
        return f"--config={find_config(name)}" + (f":{tail}" if tail else "")
    return argument


def _explain(argv: list[str], error: Exception) -> str:
    """One line for what the flag library says in many."""
    file = next((a.removeprefix("--config=").partition(":")[0] for a in argv if a.startswith("--config=")), "")
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if Path(frame.filename) == Path(file).absolute() or frame.filename == file:
            return f"{file}:{frame.lineno}: {type(error).__name__}: {error}"
    known = [f"config.{name}" for name, _ in options_of(Config)]
    for argument in argv:
        name, _, value = argument.removeprefix("--").removeprefix("-").partition("=")
        if isinstance(error, flags.UnrecognizedFlagError) and name == error.flagname:
            if not name.startswith("config."):
                return f"--{name}: no such option{nearest(name, ['config', 'workdir'])}"
            return f"--{name}: no such option{nearest(name, known)}"
    text = " ".join(str(error).split())
    for argument in argv:
        name, _, value = argument.removeprefix("--").partition("=")
        if name.startswith("config.") and not name.startswith("config.ppo.streams") and name not in known:
            return f"--{name}: no such option{nearest(name, known)}"
        if name.startswith("config.") and value and value in text:
            return f"--{name}={value}: {text[:200]}"
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return f"config: {lines[-1].strip() if lines else type(error).__name__}"
