"""Each command takes the options of its section by short names; a wrong name is answered with the closest."""

import dataclasses
from typing import Any

import pytest

from stepjax import cli
from stepjax.config import Config, StreamOptions, options_of
from stepjax.config.option import refusal
from stepjax.errors import UserError
from stepjax.options import parse
from stepjax.options.names import COMMANDS, full_name, short_name

NAMES = {name: field for name, field in options_of(Config) if name != "ppo.streams"}
NAMES |= dict(options_of(StreamOptions, "ppo.streams.process."))
COLLIDING = {"eval.seed", "label.seed", "sample.seed", "search.seed"}
START = parse([]).config

UPDATES = "'--config.sft.updates', '--config.prm.updates' or '--config.improve.updates'"


@pytest.fixture(autouse=True)
def no_run_here(monkeypatch, tmp_path):
    """Commands without --workdir read runs/quickstart, which a checkout may have."""
    monkeypatch.chdir(tmp_path)


def value_of(config: Config, name: str) -> Any:
    value: Any = config
    for part in name.split("."):
        value = value[part] if isinstance(value, dict) else getattr(value, part)
    return value


def another(field: dataclasses.Field, value: Any) -> Any:
    """A value that an option may take, other than the one it has."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return next(c for c in field.metadata["choices"] or ("", "other") if c != value)
    if isinstance(value, tuple):
        return ("other",)
    candidates = (value + 1, value - 1, value / 2, value + 0.25)
    return next(x for x in candidates if type(x) is type(value) and x != value and refusal(field, x) is None)


OWN_OPTIONS = ("compare", "study")
"""Commands that take no config."""

FIRST_WORD = {"bench": ("rollout",), "show": ("prompt",)}
"""What a command's options follow."""


def test_the_commands_with_a_section_are_known():
    assert set(COMMANDS) == {section.name for section in dataclasses.fields(Config)} & set(cli.COMMANDS)


@pytest.mark.parametrize("command", [pytest.param(c, marks=[pytest.mark.slow] * (c == "ppo")) for c in COMMANDS])
def test_every_option_of_a_command_is_taken_short_unless_it_collides(command):
    own = {name: field for name, field in NAMES.items() if name.startswith(f"{command}.")}
    assert own
    for name, field in own.items():
        short, value = name.removeprefix(f"{command}."), another(field, value_of(START, name))
        reached = short if name in COLLIDING else name
        for typed, changed in ((short, reached), (name, name)):
            config = parse([f"--config.{typed}={value}"], command).config
            assert value_of(config, changed) == value, typed
            differing = [n for n in NAMES if value_of(config, n) != value_of(START, n)]
            assert differing == [changed], typed
        assert short_name(name, command) == (None if name in COLLIDING else short)


def test_a_short_name_is_that_of_the_own_section_only():
    for command in COMMANDS:
        for name in NAMES:
            if not name.startswith(f"{command}."):
                assert short_name(name, command) is None
                assert full_name(name, command) == name, "the full name of another section's option"
    assert full_name("epochs", "") == "epochs" and full_name("epochs", "sft") == "epochs"
    with pytest.raises(UserError, match="no such option"):
        parse(["--config.epochs=2"], "sft")
    with pytest.raises(UserError, match="no such option"):
        parse(["--config.epochs=2"])


@pytest.mark.parametrize("command", ["eval", "label", "prm"])
def test_a_section_s_name_may_be_a_short_name(command):
    """`data` is a section of the config, not an option, so it is free to be short for `eval.data`."""
    config = parse(["--config.data=steps.jsonl", "--config.data.path=there"], command).config
    assert value_of(config, f"{command}.data") == "steps.jsonl" and config.data.path == "there"


@pytest.mark.parametrize(
    ("command", "typed", "told"),
    [
        ("ppo", "iteratoins=5", "--config.iteratoins: no such option (did you mean '--config.iterations'?)"),
        ("ppo", "lr=1", "--config.lr: no such option (did you mean '--config.policy.lr' or '--config.critic.lr'?)"),
        ("", "mean_ratio_guard=2", "(did you mean '--config.ppo.mean_ratio_guard'?)"),
        ("", "updates=2", f"(did you mean {UPDATES}?)"),
        ("ppo", "updates=2", f"(did you mean {UPDATES}?)"),
        ("ppo", "gamma=1", "(did you mean '--config.streams.NAME.gamma'?)"),
        ("label", "jugde.url=x", "(did you mean '--config.judge.url'?)"),
        ("data", "sauce=x", "(did you mean '--config.source'?)"),
        ("eval", "sauce=x", "(did you mean '--config.source'?)"),
        ("sft", "sft.updatse=3", "(did you mean '--config.sft.updates'?)"),
        ("sft", "ppo.epoch=3", "(did you mean '--config.ppo.epochs'?)"),
        (
            "ppo",
            "streams.process.weigt=1",
            "process.weigt: no such option (did you mean '--config.ppo.streams.process.weight'",
        ),
        ("ppo", "streams.proces.weight=1", "no such reward stream (did you mean 'process'?)"),
        ("ppo", "streams.xyz.weight=1", "--config.ppo.streams.xyz.weight: no such reward stream"),
        ("ppo", "streams.process=1", "a section, not an option"),
        ("label", "label=1", "--config.label: a section, not an option; its options are written --config.label.NAME="),
        ("bench", "xyzzyq=1", "--config.xyzzyq: no such option; `stepjax options` lists all options"),
        ("eval", "threshold=high", "--config.eval.threshold=high: must be a number, not 'high'"),
        ("eval", "kind=lables", "config.eval.kind: must be one of policies, hacks, labels"),
    ],
)
def test_a_wrong_name_or_value_is_one_line(command, typed, told):
    with pytest.raises(UserError) as error:
        parse([f"--config.{typed}"], command)
    assert told in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_refuses_a_misspelled_option_with_status_2(capsys, command, monkeypatch):
    monkeypatch.setattr("stepjax.pipeline.run_stages", None)
    program = FIRST_WORD.get(command, ())
    assert cli.main([command, *program, "--config.ppo.epcohs=3"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    wanted = "what is '--config.ppo.epcohs=3'" if command in OWN_OPTIONS else "did you mean '--config.ppo.epochs'"
    assert wanted in told


@pytest.mark.parametrize("command", [c for c in cli.COMMANDS if c not in OWN_OPTIONS])
def test_what_is_not_an_option_is_refused_in_the_same_words(capsys, command, monkeypatch):
    monkeypatch.setattr("stepjax.pipeline.run_stages", None)
    program = FIRST_WORD.get(command, ())
    assert cli.main([command, *program, "more"]) == 2
    assert capsys.readouterr().err == "stepjax: what is 'more'? Options are written --config.name=value\n"
