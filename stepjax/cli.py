"""The `stepjax` command: one subcommand, one function."""

import errno
import functools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from stepjax import __version__
from stepjax.errors import UserError

Command = Callable[[list[str]], None]


DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
"""What a disk answers that is full, read-only or broken: nothing of it is a fault of the program."""


def sft(argv: list[str]) -> None:
    """train the policy on the task's demonstrations"""
    _stages(argv, ("sft",))


def prm(argv: list[str]) -> None:
    """train the process reward model on labelled steps (after sft)"""
    _stages(argv, ("prm",))


def ppo(argv: list[str]) -> None:
    """step-level PPO (after sft, and prm where a stream needs it)"""
    _stages(argv, ("ppo",))


def evaluate(argv: list[str]) -> None:
    """measure the policies of a work directory, or (--config.eval.kind=hacks) what games their rewards"""
    # The short spelling of this command's own option.
    kind = "--config.kind="
    _stages([f"--config.eval.kind={a.removeprefix(kind)}" if a.startswith(kind) else a for a in argv], ("eval",))


def quickstart(argv: list[str]) -> None:
    """all stages of a config, measured before and after, with a report"""
    _stages(argv, None)


def report(argv: list[str]) -> None:
    """write report.html of a work directory"""
    from stepjax.options import parse
    from stepjax.runs.report import write_report

    _, workdir, rest = parse(argv, "quickstart")
    _no_more(rest)
    if workdir is None:
        raise UserError("name the work directory: stepjax report --workdir=DIR")
    print(write_report(workdir))


def compare(argv: list[str]) -> None:
    """finished runs side by side, mean ± spread over seeds: compare RUN… [--markdown]"""
    from stepjax.runs.compare import as_markdown, as_text
    from stepjax.runs.compare import compare as compared
    from stepjax.runs.progress import table

    folders = [Path(a) for a in argv if not a.startswith("-")]
    _no_more([a for a in argv if a.startswith("-") and a != "--markdown"])
    if not folders:
        raise UserError("name the work directories: stepjax compare runs/one0 runs/one1 runs/other0 …")
    lines = as_text(compared(folders))
    if "--markdown" in argv:
        print(as_markdown(lines))
    else:
        table("mean ± standard deviation over runs", lines[0], lines[1:])


def _stages(argv: list[str], stages: Sequence[str] | None) -> None:
    from stepjax.options import parse
    from stepjax.runs.pipeline import run_stages

    config, workdir, rest = parse(argv, "quickstart")
    _no_more(rest)
    run_stages(config, workdir or Path("runs") / "quickstart", stages)


def _no_more(rest: list[str]) -> None:
    if rest:
        raise UserError(f"what is {rest[0]!r}? Options are written --config.name=value")


COMMANDS: dict[str, Command] = {
    "quickstart": quickstart,
    "sft": sft,
    "prm": prm,
    "ppo": ppo,
    "eval": evaluate,
    "report": report,
    "compare": compare,
}


def _usage() -> str:
    title = f"stepjax {__version__}: step-level PPO on process reward models"
    lines = [title, "", "usage: stepjax COMMAND [options]", ""]
    lines += [f"  {name:<12}{(command.__doc__ or '').strip()}" for name, command in COMMANDS.items()]
    lines += [
        "",
        "  --config=FILE.py            the recipe (default: quickstart; also the name of one that comes with stepjax)",
        "  --config.ppo.epochs=2       change one option; `stepjax options` lists all of them",
        "  --workdir=DIR               where the run lives (default: runs/quickstart); the same command continues it",
    ]
    return "\n".join(lines)


def _options() -> str:
    from stepjax.config import Config, StreamOptions, options_of

    lines = []
    for name, field in options_of(Config):
        default = functools.reduce(getattr, name.split("."), Config())
        if isinstance(default, dict):
            lines.append(f"--config.{name}.NAME\n      {field.metadata['doc']}:")
            options = options_of(StreamOptions, f"{name}.NAME.")
            lines += [f"--config.{n}={f.default!r}\n      {f.metadata['doc']}" for n, f in options]
        else:
            lines.append(f"--config.{name}={default!r}\n      {field.metadata['doc']}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a subcommand; 0 on success, 2 with one line on a mistake of the user's."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0 if argv else 2
    if argv[0] in ("--version", "version"):
        print(__version__)
        return 0
    if argv[0] == "options" or "--help" in argv:
        print(_options())
        return 0
    name = argv[0]
    # Transformers is used for its tokenizers alone: no advice about missing PyTorch.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    try:
        if name not in COMMANDS:
            from stepjax.options import nearest

            raise UserError(f"no command {name!r}{nearest(name, COMMANDS)}")
        COMMANDS[name](argv[1:])
    except UserError as error:
        print(f"stepjax: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in DISK:
            raise
        print(f"stepjax: {error.filename or 'a file'} cannot be written: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stepjax: stopped; the same command continues from the last checkpoint", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
