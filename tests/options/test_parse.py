"""What a person types, and the one line that answers a mistake."""

import dataclasses
import os
import sys

import pytest

from stepjax.config import Config, options_of, resumable_options
from stepjax.errors import UserError
from stepjax.options import from_dict, parse, recipe


def config_of(*argv: str) -> Config:
    return parse(list(argv))[0]


def test_overrides_reach_their_field_with_its_type():
    config = config_of(
        "--config.ppo.policy.lr=0.01",
        "--config.ppo.streams.process.weight=2",
        "--config.task.register_chain.operations=(3,4)",
        "--config.stages=('sft',)",
        "--config.model.tied=true",
    )
    assert config.ppo.policy.lr == 0.01
    assert config.ppo.streams["process"].weight == 2.0
    assert config.task.register_chain.operations == (3, 4)
    assert config.stages == ("sft",) and config.model.tied is True


def test_recipe_is_the_default_config():
    assert from_dict(recipe()) == Config()


def test_config_files_by_name_and_by_path(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("from stepjax.options import recipe\ndef get_config():\n  c = recipe()\n  c.seed = 7\n  return c\n")
    assert config_of(f"--config={file}").seed == 7
    assert config_of(f"--config={file}", "--config.seed=8").seed == 8
    assert config_of("--config=gsm8k_scratch").task.name == "gsm8k"


def test_a_config_may_stand_anywhere_and_behind_a_space():
    expected = config_of("--config=gsm8k_scratch", "--config.seed=8")
    assert config_of("--config.seed=8", "--config=gsm8k_scratch") == expected
    assert config_of("--config.seed=8", "--config", "gsm8k_scratch") == expected


def test_workdir_and_default_config():
    parsed = parse(["--workdir=here"])
    assert str(parsed.workdir) == "here" and parsed.config == config_of("--config=quickstart")
    parsed = parse([], default="gsm8k_scratch")
    assert parsed.workdir is None and parsed.config == config_of("--config=gsm8k_scratch")


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("--config.ppo.polcy.lr=0.01", "did you mean '--config.ppo.policy.lr'"),
        ("--config.ppo.policy.lrr=0.01", "did you mean '--config.ppo.policy.lr'"),
        ("--config.ppo.policy.lr=abc", "abc"),
        ("--config.seed=1.5", "1.5"),
        ("--config.task.register_chain.operations=3", "operations"),
        ("--config.ppo.streams.process.weigt=0.3", "weight"),
        ("--config.ppo.streams.proces.weight=0.3", "process"),
        ("--wrkdir=x", "did you mean 'workdir'"),
        ("--config=nope.py", "no such file"),
        ("--config=quickstrat", "did you mean 'quickstart'"),
        ("--config.ppo=3", "--config.ppo: a section, not an option; its options are written --config.ppo.NAME=value"),
        ("--config", "--config: name a config file"),
        ("--workdir=", "--workdir=: name a folder"),
        ("--flagfile=options.txt", "--flagfile=options.txt: no such option"),
        ("--config.ppo.streams.proces.horizon=.5", "no such reward stream (did you mean 'process'?)"),
        ("--config.ppo.streams. rocess.least=1", "--config.ppo.streams. rocess.least: no such reward stream"),
        ("--config.ppo.streams={'a': 1}", "config.ppo.streams.a: must be a section with options, as stream(signal="),
        ("--config.ppo.streams=x", "--config.ppo.streams=x: must be a dictionary, not 'x'"),
        ("--config.ppo.streams=", "--config.ppo.streams=: must be a dictionary, not ''"),
        ("--config.ppo.streams.process.weight=x", "--config.ppo.streams.process.weight=x: must be a number, not 'x'"),
        ("--config.ppo.iterations=x", "--config.ppo.iterations=x: must be a whole number, not 'x'"),
        ("--config.ppo.iterations=", "--config.ppo.iterations=: must be a whole number, not ''"),
        ("--config.ppo.iterations", "--config.ppo.iterations: no value; it is written --config.ppo.iterations=value"),
        ("--workdir", "--workdir: no value; it is written --workdir=value"),
        ("--config.stages=('ppp',)", "config.stages: must be one of sft, label, prm, improve, ppo, eval, not 'ppp'"),
        ("--config.stages=('sft',3)", "config.stages: must be a text, not 3"),
        (
            "--config=quickstart:more",
            "quickstart.py: get_config() takes 0 positional arguments but 1 was given; its arguments",
        ),
        ("extra", "what is 'extra'? Options are written --config.name=value"),
    ],
)
def test_mistakes_are_named_in_one_line(argument, told):
    with pytest.raises(UserError) as error:
        config_of(argument)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("c.ppo.iterations = 'three'", "mine.py:5: iterations: must be a whole number, not 'three'"),
        ("c.ppo.iteratons = 3", "did you mean"),
        (
            "c.ppo.streams = {'p': 3}",
            "config.ppo.streams.p: must be a section with options, as stream(signal='outcome'), not 3",
        ),
        ("c.ppo.streams = None", "config.ppo.streams"),
        ("c.ppo.policy = None", "config.ppo.policy: must be a section with options, as {'option': value}, not None"),
        ("stream(wieght=1)", "mine.py:5: stream(wieght=…): no such option (did you mean 'weight'?)"),
        ("recipe(sed=3)", "mine.py:5: recipe(sed=…): no such option (did you mean 'seed'?)"),
        ("c.ppo.kl = (1, 2)", "mine.py:5: kl: must be a number, not (1, 2)"),
        ("c.stages = ('ppp',)", "config.stages: must be one of sft, label, prm, improve, ppo, eval, not 'ppp'"),
        ("raise SystemExit(4)", "mine.py:5: it ends the program; get_config() must return a config"),
        ("raise ValueError", "mine.py:5: ValueError"),
        ("import nowhere", "mine.py:5: ModuleNotFoundError: No module named 'nowhere'"),
        ("c.ppo.kl = = 3", "mine.py:5: SyntaxError: invalid syntax"),
        ("  c.ppo.kl = 3", "mine.py:5: IndentationError: unexpected indent"),
        ("c.ppo.kl = '\\0'", "kl: must be a number"),
        ("raise ValueError('two\\nlines')", "mine.py:5: ValueError: two lines"),
    ],
)
def test_mistakes_in_a_config_file_are_named_in_one_line(tmp_path, line, told):
    file = tmp_path / "mine.py"
    file.write_text(
        f"from stepjax.options import recipe, stream\n\ndef get_config():\n  c = recipe()\n  {line}\n  return c\n"
    )
    with pytest.raises(UserError) as error:
        config_of(f"--config={file}")
    assert told in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("other", ["--config.ppo.epochs=1", "--config.seed=1", "--config.prompt.system=a"])
def test_the_mistaken_option_is_named_and_no_other(other):
    """The flag library's message quotes numbers and words that the others' values occur in."""
    for arguments in ((other, "--config.seed=abc"), ("--config.seed=abc", other)):
        with pytest.raises(UserError, match=r"^--config\.seed=abc: must be a whole number, not 'abc'$"):
            config_of(*arguments)


def test_a_config_file_that_changes_within_a_second_is_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = tmp_path / "mine.py"
    for seed in range(1, 6):
        file.write_text(f"from stepjax.options import recipe\ndef get_config():\n  return recipe(seed={seed})\n")
        os.utime(file, (1_700_000_000, 1_700_000_000))
        assert config_of(f"--config={file}").seed == seed
    assert not (tmp_path / "__pycache__").exists()


def test_a_config_file_that_is_no_text(tmp_path):
    file = tmp_path / "bytes.py"
    file.write_bytes(b"\xff\xfe\x00\n")
    with pytest.raises(UserError, match=r"bytes\.py"):
        config_of(f"--config={file}")


def test_a_config_file_without_its_function(tmp_path):
    file = tmp_path / "empty.py"
    file.write_text("")
    with pytest.raises(UserError, match=r"empty.py: it has no function get_config\(\)"):
        config_of(f"--config={file}")


def test_a_broken_config_file_is_one_line(tmp_path):
    file = tmp_path / "broken.py"
    file.write_text("def get_config():\n    return 1 / 0\n")
    with pytest.raises(UserError) as error:
        config_of(f"--config={file}")
    assert "\n" not in str(error.value) and "zero" in str(error.value)
    file.write_text("def get_config():\n    return 5\n")
    with pytest.raises(UserError, match="get_config"):
        config_of(f"--config={file}")


def test_every_option_says_what_it_means():
    for name, field in options_of(Config):
        assert field.metadata.get("doc"), name
    assert {"mesh.fsdp", "task.grader_processes"} <= resumable_options() and "seed" not in resumable_options()
    assert dataclasses.asdict(Config())["ppo"]["streams"]["process"]["signal"] == "prm"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 10**400}, "config.seed: must be a whole number between -2147483647 and 2147483647"),
        ({"label": {"out": "a\0b"}}, r"config.label.out: no file can hold the text 'a\x00b'"),
        ({"stages": ("sft", "\ud800")}, r"config.stages: no file can hold the text '\ud800'"),
        (
            {"ppo": {"streams": {"x": {"weight": 10**400}}}},
            "config.ppo.streams.x.weight: must be a finite number, not inf",
        ),
    ],
)
def test_values_that_no_option_can_have(change, said):
    with pytest.raises(UserError) as error:
        from_dict(change)
    assert str(error.value) == said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("config.seed = open('nowhere')", "FileNotFoundError: .*nowhere"),
        ("config.ppo = 3", "ppo: must be a section of options, not 3"),
        ("config.ppo.kl = config.ppo", "kl: must be a number, not a section of options"),
        ("config.ppo.kl = object()", "kl: must be a number, not a value of type object"),
        ("config.ppo.kl = ''", "kl: must be a number, not ''"),
    ],
)
def test_a_mistake_in_a_config_file_has_its_line(tmp_path, line, said):
    file = tmp_path / "mine.py"
    file.write_text(
        f"from stepjax.options import recipe\ndef get_config():\n  config = recipe()\n  {line}\n  return config\n"
    )
    with pytest.raises(UserError, match=rf"^{file}:4: {said}"):
        config_of(f"--config={file}")


def test_an_override_of_white_space_names_its_option():
    with pytest.raises(UserError, match=r"^--config\.distributed\.grace=\r: must be a number"):
        config_of("--config.distributed.grace=\r")


def test_an_option_that_is_gone_says_so_in_one_line(tmp_path):
    with pytest.raises(
        UserError, match=r"--config.growths: there is no such option any more: the cache .*; leave it out"
    ):
        parse(["--config.growths=1"], "ppo")
    file = tmp_path / "old.py"
    file.write_text(
        "from stepjax.options import recipe\ndef get_config():\n  c = recipe()\n  c.ppo.growths = 1\n  return c\n"
    )
    with pytest.raises(UserError, match=r"ppo.growths: there is no such option any more"):
        config_of(f"--config={file}")
    assert "ppo.growths" in resumable_options(), "a work directory that was made with it goes on"


@pytest.mark.parametrize(
    ("line", "told"),
    [("del c.ppo", "config.ppo"), ("c = type(c)({**c, 'ppo': 3})", "config.ppo: must be a section with options")],
)
def test_a_section_that_is_no_section_is_named(tmp_path, line, told):
    file = tmp_path / "mine.py"
    file.write_text(f"from stepjax.options import recipe\n\ndef get_config():\n  c = recipe()\n  {line}\n  return c\n")
    if line.startswith("del"):
        assert config_of(f"--config={file}").ppo == Config().ppo, "what a config leaves out has its default"
        return
    with pytest.raises(UserError, match=told):
        config_of(f"--config={file}")
