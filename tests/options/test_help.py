"""What `--help` and `stepjax options` print: every option, its short name, lines that fit the screen."""

import functools
import os

import pytest

from stepjax import cli
from stepjax.config import Config, StreamOptions, options_of
from stepjax.options import help as options_help
from stepjax.options.names import COMMANDS

STREAMS = "ppo.streams"
NAMES = [name for name, _ in options_of(Config) if name != STREAMS]
NAMES += [f"{STREAMS}.NAME.{name}" for name, _ in options_of(StreamOptions)]


def printed(capsys, *argv: str) -> list[str]:
    assert cli.main(argv) == 0
    return capsys.readouterr().out.splitlines()


def entries(lines: list[str]) -> dict[str, tuple[str, str]]:
    """By name (of an option, as it is shown): its default with what follows on the line, and its meaning."""
    found: dict[str, list[str]] = {}
    for line in lines:
        if line.startswith("--config."):
            name, _, default = line.removeprefix("--config.").partition("=")
            found[name] = [default]
        elif line.startswith("      ") and found:
            found[name].append(line.strip())
    return {name: (default, " ".join(meaning)) for name, (default, *meaning) in found.items()}


def test_every_option_is_listed_with_its_default_and_its_meaning(capsys):
    shown = entries(printed(capsys, "options"))
    options = [(name, functools.reduce(getattr, name.split("."), Config()), f) for name, f in options_of(Config)]
    options = [(name, default, f) for name, default, f in options if name != STREAMS]
    options += [(f"{STREAMS}.NAME.{name}", f.default, f) for name, f in options_of(StreamOptions)]
    for name, default, field in options:
        assert shown[name][0].startswith(repr(default)), "the default of the recipe, not of the section's class"
        assert shown[name][1] == field.metadata["doc"], name
    assert len(shown) == len(options) + 1


def test_options_are_found_by_a_part_of_their_name(capsys):
    assert list(entries(printed(capsys, "options", "ppo.streams.NAME.kl_k"))) == ["ppo.streams.NAME.kl_kind"]
    assert list(entries(printed(capsys, "options", "epochs"))) == ["ppo.epochs", "ppo.implicit.epochs"]
    assert cli.main(("options", "xyz")) == 2
    assert "'xyz'" in capsys.readouterr().err
    for word, name in (("itertions", "ppo.iterations"), ("leraning_rate", "ppo.policy.lr")):
        lines = printed(capsys, "options", word)
        assert word in lines[0] and name in entries(lines), "near matches"
    assert cli.main(("options", "ppo", "sft")) == 2
    assert "what is 'sft'?" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_lists_its_short_options_and_those_in_full(capsys, command):
    lines = printed(capsys, command, "--help")
    shown = [name.partition("   (")[0] for name in entries(lines)]
    own = [name.removeprefix(f"{command}.") for name in NAMES if name.startswith(f"{command}.")]
    full = ["seed"] if command in ("eval", "label", "sample", "search") else []
    expected = [name for name in own if name not in full] + [f"{command}.{name}" for name in full]
    assert sorted(name for name in shown if name != "streams.NAME") == sorted(expected)
    assert f"Options of this command; --config.NAME is short for --config.{command}.NAME:" in lines
    assert ("Options in full, because the short name is that of another option:" in lines) == bool(full)


def test_the_list_of_options_tells_the_short_names(capsys):
    shown = entries(printed(capsys, "options"))
    for name in NAMES:
        command, _, short = name.partition(".")
        collides = name in ("eval.seed", "label.seed", "sample.seed", "search.seed")
        note = f"   (stepjax {command}: --config.{short})"
        assert shown[name][0].endswith(note) == (command in COMMANDS and not collides), name
        assert ("(stepjax" in shown[name][0]) == shown[name][0].endswith(note)


def test_lines_fit_a_hundred_columns_where_there_is_no_terminal(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    for argv in (("--help",), ("options",), *((name, "--help") for name in cli.COMMANDS)):
        long = [line for line in printed(capsys, *argv) if len(line) > 100]
        assert all(line.startswith("--config.") for line in long), "only a default is never broken"


def test_lines_fit_the_columns_that_are_asked_for(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    lines = printed(capsys, "ppo", "--help")
    assert 50 < max(len(line) for line in lines if not line.startswith("--config.")) <= 60


def test_lines_fit_the_terminal(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr(options_help.shutil, "get_terminal_size", lambda fallback: os.terminal_size((60, 24)))
    lines = printed(capsys, "ppo", "--help")
    assert max(len(line) for line in lines if not line.startswith("--config.")) <= 60
    assert any(len(line) > 50 for line in lines)
