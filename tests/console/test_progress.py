"""Progress and tables: one line of figures, on terminals and in logs, whatever the locale."""

import io
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from stepjax.console import progress as module
from stepjax.console.progress import progress, say, table
from stepjax.console.terminal import ascii_only, duration, figure
from stepjax.phases import phase


class Stream(io.StringIO):
    """A text stream that says of itself what a test wants."""

    def __init__(self, terminal: bool = False, encoding: str = "utf-8"):
        super().__init__()
        self._terminal, self._encoding = terminal, encoding

    @property
    def encoding(self) -> str:
        return self._encoding

    def isatty(self) -> bool:
        return self._terminal


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CI", "STEPJAX_QUIET", "LC_ALL", "LC_CTYPE", "LANG", "NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_plain_lines_every_ten_seconds_and_at_the_end(clock: list[float]) -> None:
    stream = Stream()
    with progress("SFT", 600, start=300, stream=stream) as bar:
        for step in range(300):
            clock[0] += 0.1 if step else 5.0  # the first step compiles
            bar.advance(1, loss=np.float32(0.84), lr=3e-5)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4
    assert lines[0] == "SFT 352/600 updates · 10.0/s · 0:25 left · loss 0.840 · lr 3.0e-05"
    assert lines[-1] == "SFT 600/600 updates · 8.60/s · 0:35 · loss 0.840 · lr 3.0e-05"


def test_the_end_is_told_where_the_loop_breaks_off(clock: list[float]) -> None:
    stream = Stream()
    with pytest.raises(ValueError), progress("PPO", 40, "rounds", 3, stream=stream) as bar:
        for _ in range(2):
            clock[0] += 30.0
            bar.advance(kl=0.0)
        assert bar.done == 5
        raise ValueError
    assert stream.getvalue().splitlines()[-1] == "PPO 5/40 rounds · 30.0 s each · 1:00 · kl 0"


def test_never_more_than_a_line(clock: list[float]) -> None:
    stream = Stream()
    with progress("PPO", 2, stream=stream) as bar:
        bar.advance(2, **{f"reward/long_name_{i}": 1.0 for i in range(20)})
    (line,) = stream.getvalue().splitlines()
    assert len(line) <= 100 and line.endswith("1.00")  # whole figures only


@pytest.mark.parametrize("variable", ["TERM", "CI"])
def test_a_dumb_terminal_and_ci_get_plain_lines(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "dumb")
    stream = Stream(terminal=True)
    with progress("SFT", 3, stream=stream) as bar:
        bar.advance(3)
    assert "\x1b" not in stream.getvalue() and stream.getvalue().count("\n") == 1


def test_a_terminal_gets_a_bar_that_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    stream = Stream(terminal=True)
    with progress("SFT", 4, stream=stream) as bar:
        for loss in (3.0, 2.0, 1.0, 0.5):
            drawn, until = stream.getvalue(), time.monotonic() + 10
            while stream.getvalue() == drawn:
                assert time.monotonic() < until, "nothing was drawn"
                time.sleep(0.01)
            bar.advance(loss=loss)
    text = stream.getvalue()
    assert "━" in text and "\x1b[2K" in text and "4/4 updates" in text and "loss 0.500" in text
    assert text.count("\n") <= 2


@pytest.mark.parametrize("way", ["option", "environment"])
def test_quiet(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setenv("STEPJAX_QUIET", str(int(way == "environment")))
    stream = Stream(terminal=True)
    with progress("SFT", 1, quiet=True if way == "option" else None, stream=stream) as bar:
        bar.advance(loss=1.0)
    assert stream.getvalue() == "" and bar.done == 1


def test_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal in (False, True):
        stream = Stream(terminal=terminal)
        with progress("PPO", 3, "rounds", stream=stream) as bar:
            bar.advance(1)
            bar.say("alarm: steps rose to 50 % [bold]…")
            bar.advance(2)
        assert "alarm: steps rose to 50 % [bold]…\n" in stream.getvalue()
    quiet = Stream()
    with progress("PPO", 3, stream=quiet, quiet=True) as bar:
        bar.say("alarm")
    assert quiet.getvalue() == ""
    monkeypatch.setenv("LC_ALL", "C")
    stream = Stream()
    say("alarm · 50 %…", stream=stream)
    assert stream.getvalue() == "alarm | 50 %...\n"


def test_other_processes_are_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "speaks", lambda: False)
    stream = Stream()
    with progress("SFT", 1, stream=stream) as bar:
        bar.advance()
    table("t", ["a"], [[1]], stream=stream)
    assert stream.getvalue() == ""


def test_a_bar_inside_another_is_silent() -> None:
    outer, inner = Stream(), Stream()
    with progress("PRM", 1, stream=outer) as bar:
        with progress("samples", 1, stream=inner) as nested:
            nested.advance()
        bar.advance()
    assert inner.getvalue() == "" and outer.getvalue()
    with progress("again", 1, stream=inner) as bar:
        bar.advance()
    assert inner.getvalue()


ROWS = [
    ["right answers with a wrong step, which is called a trace error – [sic]", 0.0123, "33.0 %"],
    ["α steps", 3, None],
]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_table_in_a_log(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    stream = Stream(encoding=encoding)
    table("Before – after", ["", "SFT", "PPO"], ROWS, stream=stream)
    lines = stream.getvalue().splitlines()
    assert all(len(line) <= 80 and line == line.rstrip() for line in lines)
    assert "[sic]" in stream.getvalue() and "\x1b" not in stream.getvalue()
    assert "─" not in stream.getvalue() and any("-----" in line for line in lines)
    stream.getvalue().encode(encoding)
    assert any(line.endswith("33.0 %") for line in lines)


def test_a_table_in_a_pipe_has_a_line_a_row_and_obeys_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    name, title = "x" * 200, "title " * 30
    for columns, longest in (("", 230), ("zero", 230), ("0", 230), ("60", 60), ("5", 20)):
        monkeypatch.setenv("COLUMNS", columns)
        stream = Stream()
        table(title, ["", "SFT"], [[name, 1.0], ["y", 2.0]], stream=stream)
        lines = stream.getvalue().splitlines()
        assert max(map(len, lines)) <= longest
        assert (len(lines) == 6) == (longest == 230), lines
    assert any(name in line for line in lines) is False
    name, values = "a name of a row", range(100_000, 100_006)
    for columns, whole in (("80", True), ("60", False)):
        monkeypatch.setenv("COLUMNS", columns)
        stream = Stream()
        table("t", ["", *map(str, range(6))], [[name * 4, *values]], stream=stream)
        shown = stream.getvalue()
        assert max(map(len, shown.splitlines())) <= int(columns)
        assert (name in shown) == whole, "names are not squeezed where there is room"
        assert "100005" in shown or not whole


def test_table_on_a_terminal() -> None:
    stream = Stream(terminal=True)
    table("Before", ["", "SFT"], [["x", 1.0]], stream=stream)
    assert "─" in stream.getvalue()


def test_the_c_locale_is_ascii() -> None:
    script = (
        "import sys\nfrom stepjax.console.progress import progress, table\n"
        "with progress('SFT', 1, stream=sys.stdout) as bar: bar.advance(loss=1.0)\n"
        "table('Before – after', ['a', 'b'], [['x', None]])"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("LC_ALL", "LC_CTYPE")} | {"LANG": "C"}
    shown = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=True).stdout
    assert b"SFT 1/1 updates | " in shown
    shown.decode("ascii")


def test_ascii_only_follows_the_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not ascii_only(Stream()) and ascii_only(Stream(encoding="latin-1"))
    monkeypatch.setenv("LANG", "C")
    monkeypatch.setenv("LC_CTYPE", "C.UTF-8")  # as Python does by itself under LANG=C
    assert ascii_only(Stream())
    monkeypatch.setenv("LC_ALL", "en_US.UTF-8")
    assert not ascii_only(Stream())


def test_figures() -> None:
    numbers = [0.0, 0.84, 18.2345, 1234.5, 3.14e-5, -0.5, 7, float("nan"), np.float32(2.0), 99.96, "1:2"]
    assert [figure(x) for x in numbers] == (
        ["0", "0.840", "18.2", "1234", "3.1e-05", "-0.500", "7", "nan", "2.00", "100.0", "1:2"]
    )
    assert [duration(s) for s in (0.4, 16, 61, 3723)] == ["0:00", "0:16", "1:01", "1:02:03"]


def test_phases_are_lines_until_the_first_step() -> None:
    stream = Stream()
    with progress("PPO", 2, "rounds", stream=stream) as bar:
        phase("compiling rollout")
        with progress("inner", 1, stream=stream):
            phase("decoding 64 responses")
        bar.advance()
        phase("compiling update")
    phase("nobody hears it")
    lines = stream.getvalue().splitlines()
    assert lines[:2] == ["PPO: compiling rollout", "PPO: decoding 64 responses"] and len(lines) == 3
    quiet = Stream()
    with progress("PPO", 2, quiet=True, stream=quiet):
        phase("compiling rollout")
    assert quiet.getvalue() == ""
    live = Stream(terminal=True)
    with progress("PPO", 2, "rounds", stream=live) as bar:
        phase("compiling rollout")
        assert "0/2 rounds · compiling rollout" in bar.line(80)
        bar.advance(loss=1.0)
        assert "compiling" not in bar.line(80)
