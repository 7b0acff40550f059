"""What `stepjax --help`, `stepjax COMMAND --help` and `stepjax options` print."""

import difflib
import functools
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from stepjax import __version__
from stepjax.config import Config, StreamOptions, options_of
from stepjax.errors import UserError
from stepjax.options.names import COMMANDS, short_name

CONFIG = "--config=FILE.py", "the config: a file, or the name of one that comes with stepjax (default: quickstart)"
CHANGE = "--config.ppo.epochs=2", "change one option; `stepjax options` lists all, `stepjax options WORD` some"
WORKDIR = "--workdir=DIR", "the run's folder (default: runs/quickstart); the same command continues the run"

ACCEPT = "--accept-changed", "go on where data, tokenizer, … were changed since the checkpoints were saved; recorded"

NEEDED = "--workdir=DIR", "the run's folder"

OWN: dict[str, tuple[tuple[str, str], ...]] = {
    "plan": (
        ("--topology=v5e:16x16", "kind of chip (v4, v5e, v5p, v6e, tpu7x) and chips along each axis"),
        ("--mesh=1x64x4", "devices along data, fsdp, tensor (and context, if a fourth), in place of config.mesh"),
        ("--programs=score,update", "only these programs; without tokens per second and chip-hours"),
        ("--sweep", "all meshes of the devices, with half, the same and twice the prompts; the best first"),
        ("--json", "print JSON, for scripts"),
    ),
    "bench": (
        ("rollout, score, credit, update or iteration", "what is timed; comes first"),
        ("--json", "print one JSON line per repeat and one with the medians, for scripts"),
        ("--profile", "trace one more run and list its most expensive operations"),
    ),
    "show": (
        ("prompt", "what the policy reads of three problems, and what it learns to write"),
        ("credit", "rewards, values, advantages and weights of four made-up responses"),
        (
            "responses FILE",
            "what `stepjax eval` or `stepjax sample` wrote; of a work directory the last ones",
        ),
        ("--wrong, --right, --truncated", "of these: only wrong, right or cut-off ones"),
        ("--wrong-step, --disagrees", "right ones with a wrong step; where the PRM is wrong about a step"),
        ("--alarm, --limit=20", "those with repeated, empty or trivial steps; how many are shown (0: all)"),
    ),
    "sample": (
        ("--problem=TEXT", "responses to this problem, shown step by step with PRM scores; nothing is written"),
        ("--answer=TEXT", "its right answer, by which they are graded"),
    ),
    "options": (
        ("WORD", "only the options with this in their name; where there are none, those that are near"),
        ("--changed", "only options of a --config or --workdir that differ from the defaults, to paste in a shell"),
    ),
    "compare": (
        ("RUN…", "work directories; those that differ only in seed and base are one row, named by what differs"),
        ("--markdown", "a Markdown table"),
        ("--html=FILE", "a page, too: curves laid over each other, the same problems side by side (compare.html)"),
    ),
    "study": (
        (
            "NAME",
            "what is studied; comes first: credit, variance, rounds, blame, stall, myopia, labels, padding, "
            "correction, correction_runs, seeds, simple, simple_runs or generalise",
        ),
        ("--seeds=0:5", "seeds, here 0 to 4 (the default); more can be added later"),
        ("--jobs=2", "so many processes at a time; default: 1; the study credit has one"),
        ("--workdir=DIR", "the study's folder (default: runs/study-NAME); the same command continues the study"),
        ("--quick", "a reduced study of two seeds, to see that it runs; its figures are no result"),
    ),
}
"""Arguments of single commands that are not options of the config."""

SEEDS = (
    ("--seeds=0,1,2", "a run a seed, in WORKDIR-s0, WORKDIR-s1, …; {seed} in an argument is the seed"),
    ("--jobs=2", "so many of these runs at a time, each with its output in WORKDIR-s0.log …; default: 1, in turn"),
)
OWN |= dict.fromkeys(("quickstart", "sft", "prm", "improve", "ppo", "eval"), SEEDS)

WITHOUT = {
    **dict.fromkeys(("compare", "study"), (CONFIG, CHANGE, WORKDIR)),
    "report": (CONFIG, CHANGE),
    **dict.fromkeys(("plan", "bench", "data"), (WORKDIR,)),
}
"""Common arguments that a command does not use."""

FROM_CHECKPOINTS = ("quickstart", "sft", "prm", "improve", "ppo", "eval", "label", "export")
"""Commands that may go on from checkpoints."""

WIDTH = 100
"""Columns of the help where it is not printed to a terminal."""


class Entry(NamedTuple):
    """An option as the help shows it: its full name, its short one (None: it has none), its default, its meaning."""

    name: str
    short: str | None
    default: str
    meaning: str


def usage(commands: Mapping[str, Callable]) -> str:
    """All commands, a line each."""
    title = f"stepjax {__version__}: step-level PPO on process reward models"
    lines = [title, "", "usage: stepjax COMMAND [options]", ""]
    lines += _table([(name, _meaning(command)) for name, command in commands.items()], least=10)
    lines += ["", *_table((CONFIG, CHANGE, WORKDIR)), "", "`stepjax COMMAND --help` lists a command's own options."]
    return "\n".join(lines)


def command_help(name: str, command: Callable) -> str:
    """One command: what it does, its own arguments, and the options of its section, the short ones first."""
    common = [x for x in (CONFIG, CHANGE, WORKDIR) if x not in WITHOUT.get(name, ())]
    if name in ("report", "export"):
        common[common.index(WORKDIR)] = NEEDED
    if name in FROM_CHECKPOINTS:
        common.append(ACCEPT)
    lines = [*_wrapped(f"stepjax {name}: {_meaning(command)}"), "", *_table((*OWN.get(name, ()), *common))]
    if name in COMMANDS:
        entries = [e for e in _entries() if e.name.startswith(f"{name}.")]
        lines += ["", *_wrapped(f"Options of this command; --config.NAME is short for --config.{name}.NAME:"), ""]
        lines += [line for e in entries if e.short for line in _shown(e.short, e)]
        if long := [e for e in entries if not e.short]:
            lines += ["", "Options in full, because the short name is that of another option:", ""]
            lines += [line for e in long for line in _shown(e.name, e)]
        lines += ["", *_wrapped("These are the defaults; a config sets some of them otherwise, quickstart too.")]
    return "\n".join(lines)


def options(part: str = "") -> str:
    """Every option whose name contains `part`, or where none does, is like it or whose meaning has the word: name,
    short name, default, meaning. UserError: there is none."""
    wanted = part.lower().lstrip("-").removeprefix("config.").partition("=")[0]
    found, lines = [entry for entry in _entries() if wanted in entry.name.lower()], list[str]()
    if not found:
        found = _near(wanted)
        lines = [f"no option has {part!r} in its name; near it, or with such words in the meaning:", ""]
    if not found:
        raise UserError(f"no option has {part!r} in its name or meaning; `stepjax options` lists all of them")
    for entry in found:
        section = entry.name.partition(".")[0]
        short = f"   (stepjax {section}: --config.{entry.short})" if entry.short else ""
        lines += _shown(entry.name, entry, short)
    return "\n".join(lines)


def _near(wanted: str) -> list[Entry]:
    """The options with a part of a name that is spelled like the word, then those whose meaning has its words or ones
    that are spelled like them."""
    entries, last = _entries(), wanted.rpartition(".")[2]
    parts = {part for entry in entries for part in entry.name.split(".")}
    like = difflib.get_close_matches(last, parts, n=3, cutoff=0.7)
    near = [entry for part in like for entry in entries if part in entry.name.split(".")]
    meanings = [(entry, set(re.findall(r"[a-z]{3,}", entry.meaning.lower()))) for entry in entries if entry not in near]
    known = {word for _, words in meanings for word in words}
    for word in re.findall(r"[a-z]{3,}", last):
        if meant := {word} & known or set(difflib.get_close_matches(word, known, n=1, cutoff=0.75)):
            near += [entry for entry, words in meanings if meant <= words and entry not in near]
    return near


def _entries() -> list[Entry]:
    """Every option; those of a reward stream, with `NAME` for the stream's name, after the option that holds them."""
    found = []
    for name, field in options_of(Config):
        default = functools.reduce(getattr, name.split("."), Config())
        streams = isinstance(default, dict)
        found.append(_entry(f"{name}.NAME" if streams else name, "" if streams else f"={default!r}", field.metadata))
        if streams:
            stream = options_of(StreamOptions, f"{name}.NAME.")
            found += [_entry(n, f"={f.default!r}", f.metadata) for n, f in stream]
    return found


def _entry(name: str, default: str, metadata: Mapping[str, str]) -> Entry:
    section = name.partition(".")[0]
    return Entry(name, short_name(name, section) if section in COMMANDS else None, default, metadata["doc"])


def _shown(name: str, entry: Entry, note: str = "") -> list[str]:
    return [f"--config.{name}{entry.default}{note}", *_wrapped(entry.meaning, "      ")]


def _meaning(command: Callable) -> str:
    return (command.__doc__ or "").strip()


def _table(rows: Sequence[tuple[str, str]], least: int = 26) -> list[str]:
    """Names and meanings in two columns; the second at most as wide as the screen leaves it."""
    width = max(least, *(len(name) for name, _ in rows)) + 4
    return [line for name, meaning in rows for line in _wrapped(meaning, " " * width, f"  {name}".ljust(width))]


def _wrapped(text: str, indent: str = "", first: str | None = None) -> list[str]:
    """Lines no wider than $COLUMNS or the terminal, or than `WIDTH` columns where there is neither."""
    known = sys.stdout.isatty() or os.environ.get("COLUMNS")
    width = shutil.get_terminal_size((WIDTH, 24)).columns if known else WIDTH
    wrap = textwrap.TextWrapper(
        width=max(width, len(indent) + 24),
        initial_indent=indent if first is None else first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return wrap.wrap(text)
