"""The one line that answers a mistake in a config file or on a command line."""

import re
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from absl import flags

from stepjax.config.option import kind_in_words
from stepjax.errors import UserError, nearest
from stepjax.options.names import STREAMS, closest, is_option, is_section, removed, type_of


def explain(argv: Sequence[str], section: str, error: BaseException) -> str:
    """What is wrong, where, and the likeliest cure, in place of the flag library's message of many lines.

    Args:
      argv: the command line with full names of options, `--config=FILE` among them.
      section: the section whose options may be written short.
      error: what reading `argv` raised.
    """
    file = next((a.removeprefix("--config=").partition(":")[0] for a in argv if a.startswith("--config=")), "")
    if told := _in_file(file, error):
        return told
    if match := re.search(r"get_config\(\) ((?:takes|missing) .+)", str(error)):
        return f"{file}: get_config() {match[1]}; its arguments follow a colon, as in --config={file}:ARGUMENT"
    if "get_config" in str(error):
        return f"{file}: it has no function get_config()"
    if isinstance(error, flags.UnrecognizedFlagError) and not error.flagname.startswith("config."):
        return f"--{error.flagname}: no such option{nearest(error.flagname, ['config', 'workdir'])}"
    if told := _on_the_line(argv, section, error):
        return told
    if match := re.search(r"Missing value for flag --?([\w.]+)", str(error)):
        return f"--{match[1]}: no value; it is written --{match[1]}=value"
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return f"{file}: {lines[-1].strip() if lines else type(error).__name__}"


def _in_file(file: str, error: BaseException) -> str | None:
    """What went wrong at a line of the config file, or of a file that it imports and Python cannot read."""
    for cause in _causes(error):
        if isinstance(cause, SyntaxError) and cause.filename and not cause.filename.startswith("<"):
            return f"{cause.filename}:{cause.lineno}: {type(cause).__name__}: {cause.msg}"
        for frame in reversed(traceback.extract_tb(cause.__traceback__)):
            if Path(frame.filename) == Path(file).absolute() or frame.filename == file:
                return f"{file}:{frame.lineno}: {_in_words(cause)}"
    return None


def _in_words(cause: BaseException) -> str:
    if isinstance(cause, UserError):
        return " ".join(str(cause).split())
    text = " ".join(str(cause).split())
    kind = r"<class '(?:[\w.]*\.)?(\w+)'>"
    pattern = rf"Could not override field '(\w+)' \(reference\)\.(.*) is of original type {kind} .* {kind}$"
    if match := re.match(pattern, text):
        kinds = {kind.__name__: kind for kind in (int, float, bool, str, tuple)}
        words = {"ConfigDict": "a section of options"}
        expected = kind_in_words(kinds[match[4]]) if match[4] in kinds else words.get(match[4], match[4])
        given = repr(match[2].strip()) if match[3] == "str" else match[2].strip()
        if match[3] not in (*kinds, "list", "dict", "NoneType"):  # what it prints says nothing
            given = words.get(match[3], f"a value of type {match[3]}")
        return f"{match[1]}: must be {expected}, not {given[:100]}"
    if isinstance(cause, SystemExit):
        return "it ends the program; get_config() must return a config"
    return f"{type(cause).__name__}: {text}" if text else type(cause).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _on_the_line(argv: Sequence[str], section: str, error: BaseException) -> str | None:
    """What is wrong with an option of the command line."""
    typed = [a.lstrip("-").removeprefix("config.").partition("=") for a in argv if re.match(r"--?config\.", a)]
    for name, _, _ in typed:
        if name.startswith(STREAMS) and is_section(name):
            return (
                f"--config.{name}: a section, not an option; its options are written --config.{name}.NAME=value, and "
                f"--config.{name}=none removes the stream"
            )
        if is_section(name) and not is_option(name):
            return f"--config.{name}: a section, not an option; its options are written --config.{name}.NAME=value"
        if gone := removed(name) or removed(f"{section}.{name}"):
            return f"--config.{name}: {gone}"
        if not is_option(name):
            return f"--config.{name}: no such option{closest(name, section)}"
    text = " ".join(str(error).split())
    for name, _, value in typed:
        if name.startswith(STREAMS) and isinstance(error, KeyError) and name.split(".")[2].strip() in text:
            match = re.search(r'Did you mean "([^"]+)"', text)
            told = f" (did you mean {match[1]!r}?)" if match else ""
            new = f"--config.{name.rpartition('.')[0]}.signal=outcome"
            return f"--config.{name}: no such reward stream{told}; a new one needs its signal, as in {new}"
        if f"--config.{name}={value}: " in str(error):  # other options' values may occur in it, too
            return f"--config.{name}={value[:100]}: must be {kind_in_words(type_of(name))}, not {value[:100]!r}"
    return None
