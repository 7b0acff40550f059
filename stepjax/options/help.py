"""What `stepjax --help`, `stepjax COMMAND --help` and `stepjax options` print."""

import functools
from collections.abc import Callable, Mapping, Sequence

from stepjax import __version__
from stepjax.config import Config, StreamOptions, options_of
from stepjax.errors import UserError

CONFIG = "--config=FILE.py", "the recipe (default: quickstart; also the name of one that comes with stepjax)"
CHANGE = (
    "--config.ppo.epochs=2",
    "change one option; `stepjax options` lists all of them, `stepjax options ppo.` those of PPO",
)
WORKDIR = "--workdir=DIR", "where the run lives (default: runs/quickstart); the same command continues it"

OWN: dict[str, tuple[tuple[str, str], ...]] = {
    "plan": (
        ("--topology=v5e:16x16", "kind of chip (v4, v5e, v5p, v6e, tpu7x) and chips along each axis"),
        ("--mesh=1x64x4", "devices along data, fsdp and tensor, in place of config.mesh"),
        ("--programs=score,update", "only these programs; tokens a second and chip-hours are then left out"),
        ("--sweep", "all splits of the devices, with half, the same and twice the prompts; the best first"),
        ("--json", "for scripts"),
    ),
    "bench": (
        ("rollout, score, credit, update or iteration", "what is timed; comes first"),
        ("--json", "one line a repeat and one with the medians, for scripts"),
        ("--profile", "trace one more run and list its largest costs"),
    ),
    "compare": (
        ("RUN…", "work directories of finished runs; those that differ in seed and base alone are one row"),
        ("--markdown", "a Markdown table"),
    ),
}
"""Arguments of single commands that are no options of the config."""

WITHOUT = {
    "compare": (CONFIG, CHANGE, WORKDIR),
    "report": (CONFIG, CHANGE),
    **dict.fromkeys(("plan", "bench", "data"), (WORKDIR,)),
}
"""Which of the common arguments mean nothing to a command."""

SECTIONS = {"eval": "eval.", "data": "data.", "label": "label.", "export": "export.", "bench": "bench."}
"""Of each command with a section of its own: the options' common beginning."""

SHORTENED = ("data", "label", "bench")


def usage(commands: Mapping[str, Callable]) -> str:
    """All commands, a line each."""
    title = f"stepjax {__version__}: step-level PPO on process reward models"
    lines = [title, "", "usage: stepjax COMMAND [options]", ""]
    lines += [f"  {name:<12}{_meaning(command)}" for name, command in commands.items()]
    lines += ["", *_table((CONFIG, CHANGE, WORKDIR)), "", "`stepjax COMMAND --help` says more of one command."]
    return "\n".join(lines)


def command_help(name: str, command: Callable) -> str:
    """One command: what it does, its own arguments, and the options of its section."""
    common = [x for x in (CONFIG, CHANGE, WORKDIR) if x not in WITHOUT.get(name, ())]
    lines = [f"stepjax {name}: {_meaning(command)}", "", *_table((*OWN.get(name, ()), *common))]
    if section := SECTIONS.get(name):
        short = f"; `--config.NAME=…` is short for `--config.{section}NAME=…` where no other option has the name"
        lines += ["", f"Options of this command{short if name in SHORTENED else ''}:", "", options(section)]
    return "\n".join(lines)


def options(part: str = "") -> str:
    """Every option whose name contains `part`: its name, its default, its meaning. UserError: there is none."""
    lines = []
    for name, field in options_of(Config):
        default = functools.reduce(getattr, name.split("."), Config())
        if isinstance(default, dict):
            found = [(n, f, f"={f.default!r}") for n, f in options_of(StreamOptions, f"{name}.NAME.")]
            if any(part in n for n, *_ in found):
                lines.append(f"--config.{name}.NAME\n      {field.metadata['doc']}:")
        else:
            found = [(name, field, f"={default!r}")]
        lines += [f"--config.{n}{shown}\n      {f.metadata['doc']}" for n, f, shown in found if part in n]
    if not lines:
        raise UserError(f"no option has {part!r} in its name; `stepjax options` lists all of them")
    return "\n".join(lines)


def _meaning(command: Callable) -> str:
    return (command.__doc__ or "").strip()


def _table(rows: Sequence[tuple[str, str]]) -> list[str]:
    width = max(26, *(len(name) for name, _ in rows)) + 2
    return [f"  {name:<{width}}{meaning}" for name, meaning in rows]
