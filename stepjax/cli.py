"""The `stepjax` command: one subcommand, one function."""

import functools
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stepjax import __version__
from stepjax.console.ending import failed
from stepjax.console.pipes import flush_output, outlive_readers
from stepjax.console.terminal import encodable
from stepjax.distributed.absent_tpu import skip_absent_tpu
from stepjax.distributed.signals import INTERRUPTED, second_interrupt_ends
from stepjax.errors import UserError

if TYPE_CHECKING:
    from stepjax.options.parse import Parsed

Command = Callable[[list[str]], None]


HOME = Path("runs") / "quickstart"
"""The work directory where the command line names none."""


def sft(argv: list[str]) -> None:
    """supervised training of the policy on the task's demonstrations"""
    _stages(argv, "sft")


def prm(argv: list[str]) -> None:
    """training of the process reward model on labelled steps (after sft)"""
    _stages(argv, "prm")


def improve(argv: list[str]) -> None:
    """expert iteration: search, learn what it found, search again (after sft, and prm for its scores)"""
    _stages(argv, "improve")


def ppo(argv: list[str]) -> None:
    """step-level PPO (after sft, and prm where a stream needs it)"""
    _stages(argv, "ppo")


def evaluate(argv: list[str]) -> None:
    """measure policies, benchmarks (eval.suite) or, by eval.kind, labels, PRMs, best-of-N, searches, reward hacks"""
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
    accept, argv = _accepting(argv)
    config, workdir = _parsed(argv, "label")
    from stepjax.labels.command import run_label

    run_label(config, workdir or HOME, accept_changed=accept)


def sample(argv: list[str]) -> None:
    """responses of a policy to a file, with steps, grade and PRM scores; --problem=TEXT shows one step by step"""
    from stepjax.sample.arguments import take_problem

    accept, argv = _accepting(argv)
    problem, answer, argv = take_problem(argv)
    config, workdir = _parsed(argv, "sample")
    if problem is not None:
        from stepjax.sample.one_problem import sample_one

        sample_one(config, workdir or HOME, problem, answer, accept_changed=accept)
        return
    from stepjax.sample.command import run_sample

    print(run_sample(config, workdir or HOME, accept_changed=accept))


def search(argv: list[str]) -> None:
    """search over steps, trees and answers to a file: best-of-N, beam, DVTS, PUCT, revisions; accuracy beside cost"""
    accept, argv = _accepting(argv)
    config, workdir = _parsed(argv, "search")
    from stepjax.search.command import run_search

    print(run_search(config, workdir or HOME, accept_changed=accept))


def show(argv: list[str]) -> None:
    """what a model reads and learns (show prompt), how rewards are credited (credit), what was written (responses)"""
    from stepjax.options import no_more

    known = "`stepjax show` takes: prompt, credit, responses"
    if not argv or argv[0] not in ("prompt", "credit", "responses"):
        no_more(argv[:1], known)
        raise UserError(known)
    if argv[0] == "responses":
        from stepjax.console.progress import say
        from stepjax.sample.show_responses import show_responses

        say(show_responses(argv[1:]))
        return
    if argv[0] == "credit":
        from stepjax.runs.show_credit import show_credit

        print(show_credit(_parsed(argv[1:], "ppo", home=None).config.ppo))
        return
    config, workdir = _parsed(argv[1:], "prompt", home=None)
    from stepjax.runs.show_prompt import show_prompt

    print(show_prompt(config, workdir))


def plan(argv: list[str]) -> None:
    """memory, time and cost of a run on a TPU topology, without a TPU (--topology=v5e:16x16)"""
    from stepjax.plan.command import plan as planned

    planned(argv)


def export(argv: list[str]) -> None:
    """write the policy as a Hugging Face folder (--config.out=DIR), upload it (--push=OWNER/NAME), or a chat JSONL"""
    accept, argv = _accepting(argv)
    argv = [f"--config.export.push={a.partition('=')[2]}" if a.startswith("--push=") else a for a in argv]
    config, workdir = _parsed(argv, "export", home=None, forget=("mesh",))
    if workdir is None:
        raise UserError("name the work directory: stepjax export --workdir=DIR --config.out=FOLDER")
    if config.export.what == "conversations":
        from stepjax.distil.command import export_conversations

        print(export_conversations(config, workdir, accept_changed=accept))
        return
    from stepjax.runs.export import export as exported

    print(exported(config, workdir, accept_changed=accept))


def bench(argv: list[str]) -> None:
    """time a program of a run: bench rollout|score|credit|update|iteration [--json] [--profile]"""
    from stepjax.bench.command import bench as benched

    benched(argv)


def study(argv: list[str]) -> None:
    """an experiment over seeds, with tables and charts: study variance [--workdir=DIR] [--seeds=0:5] [--quick]"""
    from stepjax.studies.command import study as studied

    studied(argv)


def compare(argv: list[str]) -> None:
    """table of runs, mean ± standard deviation over seeds, differences by seed: compare RUN… [--markdown] [--html]"""
    from stepjax.report.compare_command import compare as compared

    compared(argv)


def _stages(argv: list[str], stage: str = "") -> None:
    """Runs one stage, or all those of the config."""
    from stepjax.seeds import run_seeds, take_seeds

    seeds, argv = take_seeds(argv)
    if seeds is not None:
        run_seeds(stage or "quickstart", seeds, argv, HOME)
        return
    from stepjax.pipeline import run_stages

    accept, argv = _accepting(argv)
    config, workdir = _parsed(argv, stage)
    stages = (stage,) if stage else None
    run_stages(config, workdir or HOME, stages, accept_changed=accept)


def _parsed(argv: list[str], section: str, home: Path | None = HOME, forget: tuple[str, ...] = ()) -> "Parsed":
    """The options of a command of a run: those of its work directory, where it has some, changed by the line."""
    from stepjax.console.progress import say
    from stepjax.options import parse

    tell = functools.partial(say, stream=sys.stderr)
    return parse(argv, section, remember=True, home=home, forget=forget, tell=tell)


def _options(argv: list[str]) -> None:
    """every option with its default and its meaning; with --changed, how a run or a config differs from the defaults"""
    from stepjax.options import no_more
    from stepjax.options.changed import changed_lines
    from stepjax.options.help import options

    words = [a for a in argv if not a.startswith("-")]
    no_more(words[1:], "`stepjax options` takes one word")
    others = [a for a in argv if a.startswith("-") and a != "--changed"]
    if "--changed" not in argv:
        no_more(others, "With --config or --workdir, `stepjax options` takes --changed")
        print(options(*words))
        return
    parsed = _parsed(others, "")
    from_file = any(a == "--config" or a.startswith("--config=") for a in others)
    if parsed.workdir is not None and not from_file and not (parsed.workdir / "config.json").is_file():
        raise UserError(
            f"--workdir={parsed.workdir}: no run has begun there (no config.json); name another, or --config"
        )
    for line in changed_lines(parsed.config, *words) or ["all options have their defaults"]:
        print(encodable(line, sys.stdout))


def _accepting(argv: list[str]) -> tuple[bool, list[str]]:
    from stepjax.workdir.accepted import take_accept

    return take_accept(argv)


COMMANDS: dict[str, Command] = {
    "quickstart": quickstart,
    "sft": sft,
    "prm": prm,
    "improve": improve,
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
    "search": search,
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
        return failed(error)
    return status


def _main(argv: list[str]) -> int:
    # Transformers is used only for its tokenizers: its advice about missing PyTorch does not matter.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    if "jax" not in sys.modules:
        skip_absent_tpu()
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
        return failed(error)
    return 0


def _run(name: str, *arguments: str) -> None:
    argv = list(arguments)
    if name not in COMMANDS and name != "options":
        from stepjax.errors import nearest

        raise UserError(f"no command {name!r}{nearest(name, COMMANDS)}")
    if "--help" in argv or "-h" in argv:
        from stepjax.options.help import command_help

        print(command_help(name, _options if name == "options" else COMMANDS[name]))
    elif name == "options":
        _options(argv)
    else:
        COMMANDS[name](argv)


if __name__ == "__main__":
    sys.exit(main())
