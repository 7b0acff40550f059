"""A reader of the output that goes away, and an output that cannot be written."""

import os
import subprocess
import sys

import pytest

FULL = "/dev/full"
CODE = "import sys; from stepjax.cli import main; sys.exit(main())"
LATE = """
import sys
from stepjax import cli
def sft(argv):
    for i in range(3):
        print("a line that stays in the buffer")
        print("progress", file=sys.stderr)
    open(argv[0], "w").close()
    print("the last line")
cli.COMMANDS["sft"] = sft
sys.exit(cli.main())
"""


def run(code: str, *argv: str, **streams) -> subprocess.Popen:
    # As users have it: with buffers, of which the interpreter writes the rest when it ends.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.Popen([sys.executable, "-c", code, *argv], env=env, **streams)


@pytest.mark.parametrize("argv", [("options",), ("--help",), ("ppo", "--help"), ("--version",)])
def test_a_reader_that_ends_early_is_no_error(argv: tuple[str, ...]) -> None:
    with run(CODE, *argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.parametrize("both", [False, True])
def test_a_command_outlives_its_readers(tmp_path, both: bool) -> None:
    """`stepjax ppo | head -1`, and `stepjax ppo 2>&1 | head -1`: the work is done."""
    mark = tmp_path / "done"
    error = subprocess.STDOUT if both else subprocess.PIPE
    with run(LATE, "sft", str(mark), stdout=subprocess.PIPE, stderr=error) as process:
        assert process.stdout
        process.stdout.close()
        assert both or process.stderr.read() == b"progress\n" * 3
    assert process.returncode == 0 and mark.exists()


@pytest.mark.skipif(not os.path.exists(FULL), reason="needs a device that is always full")
@pytest.mark.parametrize("argv", [("options",), ("--help",), ("--version",)])
def test_an_output_that_cannot_be_written_is_told_in_one_line(argv: tuple[str, ...]) -> None:
    with open(FULL, "w") as full, run(CODE, *argv, stdout=full, stderr=subprocess.PIPE) as process:
        assert process.stderr
        said = process.stderr.read().decode()
    assert process.returncode == 2
    assert said == "stepjax: a file or the output cannot be written: No space left on device\n"
    with open(FULL, "w") as full, run(CODE, *argv, stdout=full, stderr=full) as process:
        assert process.wait() == 2


def test_an_output_that_is_closed_is_no_error() -> None:
    def close() -> None:
        os.close(1)

    with run(CODE, "options", stderr=subprocess.PIPE, preexec_fn=close) as process:
        assert process.stderr and process.stderr.read() == b""
    assert process.returncode == 0
