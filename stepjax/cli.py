"""The `stepjax` command: one subcommand, one function."""

import errno
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from stepjax import __version__
from stepjax.errors import Stopped, UserError, as_line

Command = Callable[[list[str]], None]


STOPPED = 75
"""Exit status of a run that was stopped by a signal or lost another process: the same command continues it."""

DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
"""Errors of a disk that is full, read-only or broken, none of which is a bug of the program."""


def sft(argv: list[str]) -> None:
    """supervised training of the policy on the task's demonstrations"""
    _stages(argv, "sft")


def prm(argv: list[str]) -> None:
    """training of the process reward model on labelled steps (after sft)"""
    _stages(argv, "prm")


def ppo(argv: list[str]) -> None:
    """step-level PPO (after sft, and prm where a stream needs it)"""
    _stages(argv, "ppo")


def evaluate(argv: list[str]) -> None:
    """measure policies or, by --config.kind, labels, reward models, best-of-N, reward hacks"""
    _stages(argv, "eval")


def quickstart(argv: list[str]) -> None:
    """all stages of a config, with evaluations before and after and a report"""
    _stages(argv)


def report(argv: list[str]) -> None:
    """write report.html of a work directory"""
    from stepjax.options import parse
    from stepjax.report.page import write_report

    _, workdir = parse(argv)
    if workdir is None:
        raise UserError("name the work directory: stepjax report --workdir=DIR")
    print(write_report(workdir))


def data(argv: list[str]) -> None:
    """convert step-labelled files of a public format to a dataset, with statistics"""
    from stepjax.options import parse

    config, _ = parse(argv, "data")
    from stepjax.data.command import convert

    convert(config.data)


def label(argv: list[str]) -> None:
    """label steps automatically: completions, tree search, a prompted judge, consensus"""
    from stepjax.options import parse

    config, workdir = parse(argv, "label")
    from stepjax.labels.command import run_label

    run_label(config, workdir or Path("runs") / "quickstart")


def show(argv: list[str]) -> None:
    """what a model reads and learns, token by token: show prompt"""
    from stepjax.options import no_more, parse

    known = "`stepjax show` takes: prompt"
    if not argv or argv[0] != "prompt":
        no_more(argv[:1], known)
        raise UserError(known)
    config, workdir = parse(argv[1:], "prompt")
    from stepjax.runs.show_prompt import show_prompt

    print(show_prompt(config, workdir))


def plan(argv: list[str]) -> None:
    """memory, time and cost of a run on a TPU topology, without a TPU (--topology=v5e:16x16)"""
    from stepjax.plan.command import plan as planned

    planned(argv)


def export(argv: list[str]) -> None:
    """write the trained policy as a Hugging Face folder (--config.out=DIR)"""
    from stepjax.options import parse

    config, workdir = parse(argv, "export")
    if workdir is None:
        raise UserError("name the work directory: stepjax export --workdir=DIR --config.out=FOLDER")
    from stepjax.runs.export import export as exported

    print(exported(config, workdir))


def bench(argv: list[str]) -> None:
    """time a program of a run: bench rollout|score|credit|update|iteration [--json] [--profile]"""
    from stepjax.bench.command import bench as benched

    benched(argv)


def compare(argv: list[str]) -> None:
    """table of finished runs, mean ± standard deviation over seeds: compare RUN… [--markdown]"""
    from stepjax.console.progress import table
    from stepjax.options import no_more
    from stepjax.report.compare import as_markdown, as_text
    from stepjax.report.compare import compare as compared

    folders = [Path(a) for a in argv if not a.startswith("-")]
    no_more([a for a in argv if a.startswith("-") and a != "--markdown"], "The one option is --markdown")
    if not folders:
        raise UserError("name the work directories: stepjax compare runs/one0 runs/one1 runs/other0 …")
    lines = as_text(compared(folders))
    if "--markdown" in argv:
        print(as_markdown(lines))
    else:
        table("mean ± standard deviation over runs", lines[0], lines[1:])


def _stages(argv: list[str], stage: str = "") -> None:
    """Runs one stage, or all those of the config."""
    from stepjax.options import parse
    from stepjax.pipeline import run_stages

    config, workdir = parse(argv, stage)
    run_stages(config, workdir or Path("runs") / "quickstart", (stage,) if stage else None)


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
    "show": show,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a subcommand; returns 0 on success, 2 after a mistake of the user's, which it says in one line."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help", "help"):
        from stepjax.options.help import usage

        _show(usage(COMMANDS))
        return 0 if argv else 2
    if argv[0] in ("--version", "version"):
        print(__version__)
        return 0
    name = argv[0]
    # Transformers is used only for its tokenizers: its advice about missing PyTorch does not matter.
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
        from stepjax.options import no_more
        from stepjax.options.help import command_help, options

        words = [a for a in argv if a not in ("--help", "-h")]
        if name == "options":
            no_more(words[1:], "`stepjax options` takes one word")
        _show(options(*words) if name == "options" else command_help(name, COMMANDS[name]))
    else:
        COMMANDS[name](argv)


def _show(text: str) -> None:
    """Prints a help text; a reader that ends early (`| head`) is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Python flushes standard output once more at its exit, which must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _failed(error: BaseException) -> int:
    """Says in one line what ended the command and returns its exit status; a bug of the program is raised again."""
    session = sys.modules.get("stepjax.distributed.session")  # a command that never imported it is the only process
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
    """Exit status and line of an error that is not a bug of the program."""
    if isinstance(error, UserError):
        return 2, as_line(str(error))
    if isinstance(error, Stopped):
        return STOPPED, f"{error}; the same command continues"
    if isinstance(error, OSError) and error.errno in DISK:
        return 2, as_line(f"{error.filename or 'a file'} cannot be written: {error.strerror}")
    if lacking := _out_of_memory(error):
        return 2, as_line(
            f"out of memory ({lacking}): take fewer or shorter rows, a smaller model or more devices; `stepjax plan` "
            "says what a run needs"
        )
    if isinstance(error, KeyboardInterrupt):
        return 130, "stopped; the same command continues from the last checkpoint"
    return None


def _out_of_memory(error: BaseException) -> str | None:
    """The sentence that says which allocation failed; None where none did."""
    if isinstance(error, MemoryError):
        return str(error) or "of the host"
    found = re.search("[^:]*(RESOURCE_EXHAUSTED|[Oo]ut of memory)[^.\n]*", str(error))
    return found[0].strip() if found and type(error).__name__ == "JaxRuntimeError" else None


if __name__ == "__main__":
    sys.exit(main())
