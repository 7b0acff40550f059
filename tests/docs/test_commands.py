"""Every command that the pages show is read by the program itself: its name, its options, their values, its config."""

import importlib
import re
import shlex
import sys

import pytest
from docs.pages import command_lines

from stepjax import cli
from stepjax.errors import UserError
from stepjax.options import parse
from stepjax.sample.show_responses import read_arguments
from stepjax.studies.command import read_arguments as read_study

PLACEHOLDERS = (
    (r"--config=(own|mine)\.py", "--config=quickstart"),  # the reader's own file
    (r":ARM\b", ":step"),
    (r"\.seed=N\b", ".seed=0"),
    (r"\bPROGRAM\b", "rollout"),
    (r" …(?= |$)", ""),
)


def shown_commands() -> set[tuple[str, str]]:
    """(page, arguments) of each `stepjax …`, as a shell would have them; `stepjax …` itself stands for any."""
    found = set()
    for page, line in command_lines():
        match = re.match(r"\s*(?:(?:\S*/|launch/local\.py .*-- )?)stepjax +([^\s…].*)", line)
        if match:
            arguments = " ".join(shlex.split(match[1], comments=True))
            for pattern, replacement in PLACEHOLDERS:
                arguments = re.sub(pattern, replacement, arguments)
            found.add((page, arguments))
    return found


COMMANDS = sorted(shown_commands())
MODULES = sorted({name for _, line in command_lines() for name in re.findall(r"python -m ([\w.]+)", line)})


class Read(Exception):
    """The command line was read without a complaint."""


@pytest.fixture
def reading_only(monkeypatch):
    """Every command stops as soon as it has read its options."""
    for name in ("stepjax.plan.command", "stepjax.bench.command"):
        importlib.import_module(name)

    def read(*args, **kwargs):
        parse(*args, **kwargs)
        raise Read

    for name, module in list(sys.modules.items()):
        if name.startswith("stepjax.") and getattr(module, "parse", None) is parse:
            monkeypatch.setattr(module, "parse", read)


def test_commands_are_found():
    assert len(COMMANDS) > 60
    assert {arguments.split()[0] for _, arguments in COMMANDS} >= set(cli.COMMANDS)


@pytest.mark.parametrize(("page", "arguments"), COMMANDS)
def test_the_program_reads_the_command(page, arguments, reading_only, capsys):
    name, *argv = arguments.split()
    if name == "options" and "--changed" in argv:
        with pytest.raises(Read):
            cli.main([name, *argv])
        return
    if name in ("options", "--help") or "--help" in argv:
        assert cli.main([name, *argv]) == 0, capsys.readouterr().err
        return
    assert name in cli.COMMANDS, f"{page}: stepjax {name}"
    if name == "show" and argv[:1] == ["responses"]:
        read_arguments(argv[1:] if len(argv) > 1 else ["FILE"])
        return
    if name == "study":
        read_study(argv or ["credit"])
        return
    # `compare` has no config; and what a sentence says of a command need not be all that the command needs.
    if name != "compare" and any(a.startswith("--") for a in argv):
        with pytest.raises(Read):
            cli.COMMANDS[name](argv)


@pytest.mark.parametrize("arguments", ["ppo --config.ppo.slotz=64", "ppo --config=quickest", "eval --config.kind=all"])
def test_a_wrong_command_would_be_seen(arguments, reading_only):
    name, *argv = arguments.split()
    with pytest.raises(UserError):
        cli.COMMANDS[name](argv)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_that_is_run_exists(name):
    assert importlib.util.find_spec(name) is not None
