"""The `stepjax` command: one subcommand, one function."""

import difflib
import errno
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from stepjax import __version__
from stepjax.console.pipes import flush_output, outlive_readers, to_nowhere
from stepjax.distributed.signals import INTERRUPTED, second_interrupt_ends
from stepjax.errors import Stopped, UserError, as_line

Command = Callable[[list[str]], None]


STOPPED = 75
"""Exit status of a run that was stopped by a signal or lost another process: the same command continues it."""

DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
"""Errors of a disk that is full, read-only or broken, none of which is a bug of the program."""


NO_PATH = {errno.ENAMETOOLONG, errno.ELOOP}
"""Errors of a text that cannot be a file's path."""


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

    accept, argv = _accepting(argv)
    config, workdir = parse(argv, "label")
    from stepjax.labels.command import run_label

    run_label(config, workdir or Path("runs") / "quickstart", accept_changed=accept)


def sample(argv: list[str]) -> None:
    """responses of a policy to a file: text, steps, grade, log-probability, PRM scores"""
    from stepjax.options import parse

    accept, argv = _accepting(argv)
    config, workdir = parse(argv, "sample")
    from stepjax.sample.command import run_sample

    print(run_sample(config, workdir or Path("runs") / "quickstart", accept_changed=accept))


def show(argv: list[str]) -> None:
    """token by token, what a model reads and learns (show prompt) and how rewards are credited (show credit)"""
    from stepjax.options import no_more, parse

    known = "`stepjax show` takes: prompt, credit"
    if not argv or argv[0] not in ("prompt", "credit"):
        no_more(argv[:1], known)
        raise UserError(known)
    if argv[0] == "credit":
        from stepjax.runs.show_credit import show_credit

        print(show_credit(parse(argv[1:], "ppo").config.ppo))
        return
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

    accept, argv = _accepting(argv)
    config, workdir = parse(argv, "export")
    if workdir is None:
        raise UserError("name the work directory: stepjax export --workdir=DIR --config.out=FOLDER")
    from stepjax.runs.export import export as exported

    print(exported(config, workdir, accept_changed=accept))


def bench(argv: list[str]) -> None:
    """time a program of a run: bench rollout|score|credit|update|iteration [--json] [--profile]"""
    from stepjax.bench.command import bench as benched

    benched(argv)


def study(argv: list[str]) -> None:
    """an experiment with its tables and charts: study credit [--workdir=DIR] [--seeds=0:5] [--quick]"""
    from stepjax.studies.command import study as studied

    studied(argv)


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

    accept, argv = _accepting(argv)
    config, workdir = parse(argv, stage)
    stages = (stage,) if stage else None
    run_stages(config, workdir or Path("runs") / "quickstart", stages, accept_changed=accept)


def _accepting(argv: list[str]) -> tuple[bool, list[str]]:
    """Whether the user goes on with files that were changed, and the other arguments."""
    from stepjax.workdir.fingerprints import ACCEPT

    for argument in argv:
        name = argument.partition("=")[0]
        if name != argument and name == ACCEPT:
            raise UserError(f"{argument}: it takes no value; write {ACCEPT}")
        if name != ACCEPT and difflib.get_close_matches(name, [ACCEPT], cutoff=0.8):
            raise UserError(f"{argument}: no such option (did you mean '{ACCEPT}'?)")
    return ACCEPT in argv, [argument for argument in argv if argument != ACCEPT]


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
    "sample": sample,
    "show": show,
    "study": study,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a subcommand; returns 0 on success, 2 after a mistake of the user's, which it says in one line."""
    outlive_readers()
    with second_interrupt_ends():
        status = _main(list(sys.argv[1:] if argv is None else argv))
    if argv is None and status == INTERRUPTED:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # the second Ctrl-C may come while the interpreter ends
    if (error := flush_output()) is not None and not status:
        return _failed(error)
    return status


def _main(argv: list[str]) -> int:
    # Transformers is used only for its tokenizers: its advice about missing PyTorch does not matter.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    try:
        if not argv or argv[0] in ("-h", "--help", "help"):
            from stepjax.options.help import usage

            print(usage(COMMANDS))
            return 0 if argv else 2
        if argv[0] in ("--version", "version"):
            print(__version__)
        else:
            _run(*argv)
    except (Exception, KeyboardInterrupt) as error:
        return _failed(error)
    return 0


def _run(name: str, *arguments: str) -> None:
    argv = list(arguments)
    if name not in COMMANDS and name != "options":
        from stepjax.errors import nearest

        raise UserError(f"no command {name!r}{nearest(name, COMMANDS)}")
    if name == "options" or "--help" in argv or "-h" in argv:
        from stepjax.options import no_more
        from stepjax.options.help import command_help, options

        words = [a for a in argv if a not in ("--help", "-h")]
        if name == "options":
            no_more(words[1:], "`stepjax options` takes one word")
        print(options(*words) if name == "options" else command_help(name, COMMANDS[name]))
    else:
        COMMANDS[name](argv)


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
    try:
        print(f"stepjax: {line}", file=sys.stderr, flush=True)
    except OSError:  # nobody reads it, or its disk is full: the status says it, too
        to_nowhere(sys.stderr.fileno())
    if session is not None:
        session.leave(status, line)
    return status


def _told(error: BaseException) -> tuple[int, str] | None:
    """Exit status and line of an error that is not a bug of the program."""
    if isinstance(error, UserError):
        return 2, as_line(str(error))
    if isinstance(error, Stopped):
        return INTERRUPTED if error.interrupted else STOPPED, f"{error}; the same command continues"
    if isinstance(error, OSError) and error.errno in DISK:
        return 2, as_line(f"{error.filename or 'a file or the output'} cannot be written: {error.strerror}")
    if isinstance(error, OSError) and error.errno in NO_PATH:
        return 2, as_line(f"{str(error.filename)[:200]}: {error.strerror}; name another file")
    if lacking := _out_of_memory(error):
        return 2, as_line(
            f"out of memory ({lacking}): take fewer or shorter rows, a smaller model or more devices; `stepjax plan` "
            "says what a run needs"
        )
    if isinstance(error, KeyboardInterrupt):
        return (
            INTERRUPTED,
            "stopped by Ctrl-C; what was saved is whole, and the same command goes on from there",
        )
    return None


def _out_of_memory(error: BaseException) -> str | None:
    """The sentence that says which allocation failed; None where none did."""
    if isinstance(error, MemoryError):
        return str(error) or "of the host"
    if type(error).__name__ != "JaxRuntimeError":
        return None
    text = str(error)
    found = re.search("RESOURCE_EXHAUSTED|[Oo]ut of memory", text)
    return None if found is None else re.split("[.\n]", text[text.rfind(":", 0, found.start()) + 1 :])[0].strip()


if __name__ == "__main__":
    sys.exit(main())
