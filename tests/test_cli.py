"""The command: what it prints, what it calls, and its exit statuses."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fuzz.fuzzing import bounded

import stepjax
from stepjax import cli, programs
from stepjax.errors import UserError
from stepjax.plan.command import OPTIONS as plan_options


@pytest.fixture(autouse=True)
def no_run_here(monkeypatch, tmp_path):
    """Commands without --workdir read runs/quickstart, which a checkout may have."""
    monkeypatch.chdir(tmp_path)


def said(capsys, *argv: str) -> tuple[int, str, str]:
    """(exit status, stdout, stderr)"""
    status = cli.main(argv)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.mark.parametrize("argv", [("--help",), ("-h",), ("help",), ()])
def test_usage_names_every_command(capsys, argv):
    status, out, err = said(capsys, *argv)
    assert status == (0 if argv else 2) and not err
    assert "usage: stepjax COMMAND [options]" in out
    words = " ".join(out.split())
    for name, command in cli.COMMANDS.items():
        assert any(line.split()[:1] == [name] for line in out.splitlines()), name
        assert f"{name} {command.__doc__}" in words, name
    assert "--config" in out and "--workdir" in out


@pytest.mark.parametrize("argv", [("--version",), ("version",)])
def test_version(capsys, argv):
    assert said(capsys, *argv) == (0, f"{stepjax.__version__}\n", "")


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_says_what_it_does(capsys, name, flag):
    status, out, err = said(capsys, name, flag)
    assert status == 0 and not err
    assert " ".join(out.split()).startswith(f"stepjax {name}: {cli.COMMANDS[name].__doc__}")


def test_own_arguments_of_plan_are_told(capsys):
    _, out, _ = said(capsys, "plan", "--help")
    assert all(f"--{option}" in out for option in plan_options)


def test_a_mistyped_command_is_answered_with_the_nearest(capsys):
    status, out, err = said(capsys, "quickstrat")
    assert (status, out) == (2, "")
    assert err == "stepjax: no command 'quickstrat' (did you mean 'quickstart'?)\n"
    status, _, err = said(capsys, "xyz")
    assert status == 2 and all(name in err for name in cli.COMMANDS)


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (("sft", "--config.sft.updatse=3"), "did you mean '--config.sft.updates'"),
        (("sft", "more"), "what is 'more'?"),
        (("ppo", "--config=nowhere.py"), "nowhere.py: no such file"),
        (("sft", "--accept-changed=1"), "--accept-changed=1: it takes no value"),
        (("ppo", "--acept-changed"), "--acept-changed: no such option (did you mean '--accept-changed'?)"),
        (("report",), "name the work directory"),
        (("report", "--workdir=/", "more"), "what is 'more'?"),
    ],
)
def test_mistakes_are_one_line_and_status_2(capsys, argv, told):
    status, out, err = said(capsys, *argv)
    assert (status, out) == (2, "")
    assert err.startswith("stepjax: ") and told in err and err.count("\n") == 1


def test_a_report_of_no_run_is_a_mistake(capsys, tmp_path):
    status, _, err = said(capsys, "report", f"--workdir={tmp_path / 'nothing'}")
    assert status == 2 and str(tmp_path / "nothing") in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "stages"),
    [("quickstart", None), ("sft", ("sft",)), ("prm", ("prm",)), ("ppo", ("ppo",)), ("eval", ("eval",))],
)
@pytest.mark.parametrize("accept", [False, True])
def test_commands_run_their_stages(monkeypatch, capsys, command, stages, accept):
    calls = []
    monkeypatch.setattr("stepjax.pipeline.run_stages", lambda *args, **told: calls.append((*args, told)))
    told = ["--accept-changed"] if accept else []
    assert said(capsys, command, "--config.seed=7", *told, "--workdir=there")[0] == 0
    ((config, workdir, chosen, others),) = calls
    assert (config.seed, workdir, chosen, others) == (7, Path("there"), stages, {"accept_changed": accept})


def test_the_work_directory_has_a_default(monkeypatch, capsys):
    calls = []
    monkeypatch.setattr("stepjax.pipeline.run_stages", lambda *args, **told: calls.append(args))
    assert said(capsys, "sft")[0] == 0
    assert calls[0][1] == Path("runs") / "quickstart"


def fails_with(error):
    def command(argv):
        raise error

    return command


def test_an_error_of_many_lines_is_said_in_one(monkeypatch, capsys):
    monkeypatch.setitem(cli.COMMANDS, "sft", fails_with(UserError("a\n  b")))
    assert said(capsys, "sft") == (2, "", "stepjax: a b\n")


def test_an_interrupt_is_status_130(monkeypatch, capsys):
    monkeypatch.setitem(cli.COMMANDS, "sft", fails_with(KeyboardInterrupt()))
    status, out, err = said(capsys, "sft")
    assert (status, out) == (130, "") and err.startswith("stepjax: stopped") and err.count("\n") == 1


def test_errors_of_the_program_itself_are_not_hidden(monkeypatch):
    monkeypatch.setitem(cli.COMMANDS, "sft", fails_with(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        cli.main(["sft"])


def test_the_arguments_are_the_process_s_own_by_default(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["stepjax", "--version"])
    assert cli.main() == 0
    assert capsys.readouterr().out == f"{stepjax.__version__}\n"


def test_an_error_cannot_colour_or_flood_the_terminal(monkeypatch, capsys):
    monkeypatch.setitem(cli.COMMANDS, "sft", fails_with(UserError("red \x1b[31m\x00\u202e é 日" + "x" * 5000 + "end")))
    status, _, err = said(capsys, "sft")
    assert status == 2 and err.startswith(r"stepjax: red \x1b[31m\x00\u202e é 日xxx") and err.endswith("xxxend\n")
    assert len(err) < 1100 and " … " in err
    assert main_line(capsys, "compare", "no\x1b[2J") == r"no\x1b[2J/config.json cannot be read"


def main_line(capsys, *argv):
    status, _, err = said(capsys, *argv)
    assert status == 2
    return err.removeprefix("stepjax: ").partition(" (")[0]


def test_an_allocation_that_fails_is_one_line(monkeypatch, capsys):
    def on_device():
        return jax.jit(lambda: jnp.zeros((2**20, 2**20, 2**10), jnp.float32))()

    def on_host():
        return np.ones((2**20, 2**20, 2**10))

    for allocate in (on_device, on_host):
        monkeypatch.setitem(cli.COMMANDS, "sft", lambda argv, allocate=allocate: allocate())
        status, _, err = said(capsys, "sft")
        assert status == 2 and err.count("\n") == 1, err
        assert err.startswith("stepjax: out of memory (") and "llocat" in err and "`stepjax plan`" in err


def test_out_of_memory_names_the_options_of_a_program_that_was_too_large(monkeypatch, capsys):
    monkeypatch.setattr(programs, "oversized", ["program score needs 33.0 GB, and …: lower config.ppo.max_new_tokens"])
    monkeypatch.setitem(cli.COMMANDS, "sft", fails_with(MemoryError()))
    status, _, err = said(capsys, "sft")
    assert status == 2 and "program score needs 33.0 GB, and …: lower config.ppo.max_new_tokens, or take" in err


def test_another_error_of_the_device_is_not_hidden(monkeypatch):
    monkeypatch.setitem(cli.COMMANDS, "sft", fails_with(jax.errors.JaxRuntimeError("INTERNAL: a bug")))
    with pytest.raises(jax.errors.JaxRuntimeError):
        cli.main(["sft"])


def test_an_error_of_a_million_characters_is_said_at_once(capsys, monkeypatch):
    monkeypatch.setitem(cli.COMMANDS, "sft", fails_with(UserError("x" * 10**6)))
    with bounded(cpu=5, wall=60):
        status, _, err = said(capsys, "sft")
    assert status == 2 and err.startswith("stepjax: xxx")


JUDGE = ("--config.method=judge", "--config.judge.url=http://localhost:1")


def test_a_path_that_no_file_can_have_is_one_line(capsys):
    assert cli.main(["label", f"--config.data={'x' * 5000}", "--config.out=labels.jsonl", *JUDGE]) == 2
    error = capsys.readouterr().err
    assert "File name too long" in error and error.count("\n") == 1 and len(error) < 1000
