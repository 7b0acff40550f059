"""The `stepjax` command: one subcommand, one function."""

import dataclasses
import errno
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from stepjax import __version__
from stepjax.errors import Stopped, UserError

Command = Callable[[list[str]], None]


STOPPED = 75
"""Exit status of a run that was told to stop, or that lost another process: the same command continues it."""

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
    """measure policies, or (--config.eval.kind=…) labels, reward models, best-of-N, what games the rewards"""
    # The short spelling of this command's own option.
    kind = "--config.kind="
    _stages([f"--config.eval.kind={a.removeprefix(kind)}" if a.startswith(kind) else a for a in argv], ("eval",))


def quickstart(argv: list[str]) -> None:
    """all stages of a config, measured before and after, with a report"""
    _stages(argv, None)


def report(argv: list[str]) -> None:
    """write report.html of a work directory"""
    from stepjax.options import parse
    from stepjax.report.page import write_report

    _, workdir, rest = parse(argv, "quickstart")
    _no_more(rest)
    if workdir is None:
        raise UserError("name the work directory: stepjax report --workdir=DIR")
    print(write_report(workdir))


def data(argv: list[str]) -> None:
    """step-labelled files of a public format to one dataset, with statistics"""
    from stepjax.config import Config, DataOptions
    from stepjax.options import parse

    # The short spelling of this command's own options, where no other option has the name.
    own = {f.name for f in dataclasses.fields(DataOptions)} - {f.name for f in dataclasses.fields(Config)}
    short = re.compile(rf"--config\.({'|'.join(sorted(own))})=")
    config, _, rest = parse([short.sub(r"--config.data.\1=", a) for a in argv], "quickstart")
    _no_more(rest)
    from stepjax.data.command import convert

    convert(config.data)


def label(argv: list[str]) -> None:
    """label steps without people: completions, tree search, a prompted judge, consensus"""
    from stepjax.config import Config, LabelOptions
    from stepjax.options import parse

    # The short spelling, where the whole config has no such value; `--config.data=` names no section's option.
    whole = {f.name for f in dataclasses.fields(Config)} - {"data"}
    own = "|".join(sorted({f.name for f in dataclasses.fields(LabelOptions)} - whole))
    short = re.compile(rf"--config\.((?:{own})=|(?:judge|omega)\.)")
    config, workdir, rest = parse([short.sub(r"--config.label.\1", a) for a in argv], "quickstart")
    _no_more(rest)
    from stepjax.labels.command import run_label

    run_label(config, workdir or Path("runs") / "quickstart")


def plan(argv: list[str]) -> None:
    """what a run needs and costs on a TPU topology, without a TPU (--topology=v5e:16x16)"""
    from stepjax.plan.command import plan as planned

    planned(argv)


def export(argv: list[str]) -> None:
    """write the trained policy as a Hugging Face folder (--config.export.out=DIR)"""
    from stepjax.options import parse

    config, workdir, rest = parse(argv, "quickstart")
    _no_more(rest)
    if workdir is None:
        raise UserError("name the work directory: stepjax export --workdir=DIR --config.export.out=FOLDER")
    from stepjax.runs.export import export as exported

    print(exported(config, workdir))


def bench(argv: list[str]) -> None:
    """time the programs of a run on known shapes: bench rollout|score|credit|update|iteration [--json] [--profile]"""
    from stepjax.bench.command import bench as benched

    benched(argv)


def compare(argv: list[str]) -> None:
    """finished runs side by side, mean ± spread over seeds: compare RUN… [--markdown]"""
    from stepjax.console.progress import table
    from stepjax.report.compare import as_markdown, as_text
    from stepjax.report.compare import compare as compared

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
    from stepjax.pipeline import run_stages

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
    "plan": plan,
    "export": export,
    "compare": compare,
    "bench": bench,
    "data": data,
    "label": label,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a subcommand; 0 on success, 2 with one line on a mistake of the user's."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help", "help"):
        from stepjax.options.help import usage

        print(usage(COMMANDS))
        return 0 if argv else 2
    if argv[0] in ("--version", "version"):
        print(__version__)
        return 0
    name = argv[0]
    # Transformers is used for its tokenizers alone: no advice about missing PyTorch.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    try:
        if name not in COMMANDS and name != "options":
            from stepjax.errors import nearest

            raise UserError(f"no command {name!r}{nearest(name, COMMANDS)}")
        _run(name, argv[1:])
    except (Exception, KeyboardInterrupt) as error:
        return _failed(error)
    return 0


def _run(name: str, argv: list[str]) -> None:
    if name == "options" or "--help" in argv or "-h" in argv:
        from stepjax.options.help import command_help, options

        told = [a for a in argv if a not in ("--help", "-h")]
        _no_more(told[1:] if name == "options" else [])
        print(options(*told) if name == "options" else command_help(name, COMMANDS[name]))
    else:
        COMMANDS[name](argv)


def _failed(error: BaseException) -> int:
    """Says in one line what ended the command and returns its exit status; an error of the program is raised again."""
    session = sys.modules.get("stepjax.distributed.session")  # a command that never imported it is alone
    if session is not None:
        session.explain(error)
    told = _told(error)
    if told is None:
        if session is not None and session.others():
            traceback.print_exception(error)
            session.leave(1, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
        raise error
    status, line = told
    print(f"stepjax: {line}", file=sys.stderr, flush=True)
    if session is not None:
        session.leave(status, line)
    return status


def _told(error: BaseException) -> tuple[int, str] | None:
    """Exit status and line of an error that is no fault of the program."""
    if isinstance(error, UserError):
        return 2, " ".join(str(error).split())
    if isinstance(error, Stopped):
        return STOPPED, f"{error}; the same command continues"
    if isinstance(error, OSError) and error.errno in DISK:
        return 2, f"{error.filename or 'a file'} cannot be written: {error.strerror}"
    if isinstance(error, KeyboardInterrupt):
        return 130, "stopped; the same command continues from the last checkpoint"
    return None


if __name__ == "__main__":
    sys.exit(main())
