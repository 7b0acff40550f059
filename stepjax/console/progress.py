"""Output of a stage for people: a bar with rate and time left, and tables of results.

On a terminal the bar moves in place; elsewhere (a log, CI) it is a plain line every ten seconds and one at the end.
Where the locale is C, all of it is ASCII. STEPJAX_QUIET=1 silences the bars. Of several processes only the first
prints.
"""

import math
import os
import re
import shutil
import sys
import textwrap
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, TextIO

from stepjax.console.terminal import ascii_only, columns_given, duration, encodable, figure, is_terminal, speaks
from stepjax.phases import listening

PLAIN_SECONDS = 10.0
"""Least time between two plain lines, in seconds."""

PLAIN_WIDTH = 100
BAR_WIDTH = 24

_NUMBER = re.compile(r"[-+−]?[\d.,]+(e[-+]?\d+)?\s?%?|[-–]|nan|[-+]?inf")


class Bar:
    """The progress of one loop.

    Attributes:
      done: how many of `total` are done, including those before this start.
    """

    def __init__(self, label: str, total: int, unit: str, start: int):
        self.done = start
        self._label, self._total, self._unit, self._first = label, total, unit, start
        self._begun = time.monotonic()
        # (time, done) about every half second of the last half minute. The first is taken after the first step, so the
        # rate leaves out what it takes to compile.
        self._window: deque[tuple[float, int]] = deque(maxlen=60)
        self._latest: dict[str, Any] = {}
        self._figures = ""
        self._formatted = -math.inf

    def advance(self, n: int = 1, **figures: Any) -> None:
        """Counts `n` more; `figures` (numbers) are shown after the rate, as many as fit on the line."""
        now = time.monotonic()
        self.done += n
        if not self._window or now - self._window[-1][0] > 0.5:
            self._window.append((now, self.done))
        # Not at each call: to format an array of a device waits for it.
        self._latest = figures or self._latest
        if now - self._formatted > 0.2:
            self._format(now)
        self._show(now)

    def _format(self, now: float) -> None:
        self._figures = "".join(f" · {name} {figure(value)}" for name, value in self._latest.items())
        self._formatted = now

    def line(self, width: int, *, ended: bool = False) -> str:
        """`312/600 updates · 18.2/s · 0:16 left · loss 0.84`; after the end the whole time instead of what is left.

        Figures that do not fit into `width` are left out, the last ones first.
        """
        now = time.monotonic()
        then, before = self._window[0] if self._window and not ended else (self._begun, self._first)
        rate = (self.done - before) / (now - then) if self.done > before and now > then else 0.0
        text = f"{self.done}/{self._total} {self._unit}"
        if rate:
            text += f" · {figure(rate)}/s" if rate >= 0.1 else f" · {figure(1 / rate)} s each"
        if ended:
            text += f" · {duration(now - self._begun)}"
        elif rate:
            text += f" · {duration(max(self._total - self.done, 0) / rate)} left"
        text += self._figures
        while len(text) > width and " · " in text:
            text = text.rpartition(" · ")[0]
        return text

    def say(self, text: str) -> None:
        """Prints a line above the bar; nothing where the bar is not shown."""

    def phase(self, text: str) -> None:
        """What is done before the first step, "compiling rollout"; nothing where the bar is not shown."""

    def _show(self, now: float) -> None:
        """Prints nothing."""

    def _end(self) -> None:
        """Prints nothing."""


class _PlainBar(Bar):
    def __init__(self, stream: TextIO, *args: Any):
        super().__init__(*args)
        self._stream, self._told = stream, self._begun

    def say(self, text: str) -> None:
        print(encodable(text, self._stream), file=self._stream, flush=True)

    def phase(self, text: str) -> None:
        if not self._window:
            self.say(f"{self._label}: {text}")

    def _show(self, now: float) -> None:
        if now - self._told >= PLAIN_SECONDS:
            self._told = now
            self._print()

    def _end(self) -> None:
        self._format(time.monotonic())
        self._print(ended=True)

    def _print(self, *, ended: bool = False) -> None:
        line = self.line(PLAIN_WIDTH - len(self._label) - 1, ended=ended)
        print(encodable(f"{self._label} {line}", self._stream), file=self._stream, flush=True)


class _LiveBar(Bar):
    def __init__(self, stream: TextIO, *args: Any):
        from rich.console import Console
        from rich.live import Live

        super().__init__(*args)
        self._stream, self._ended = stream, False
        self._console = Console(file=stream, force_terminal=True, highlight=False)
        self._live = Live(
            get_renderable=self._render,
            console=self._console,
            refresh_per_second=4,
            redirect_stdout=sys.stdout.isatty(),  # a result that goes into a file must not land on the terminal
        )
        self._live.start()

    def say(self, text: str) -> None:
        from rich.text import Text

        self._console.print(Text(encodable(text, self._stream)))

    def phase(self, text: str) -> None:
        self._figures = "" if self._window else f" · {text}"

    def _render(self) -> Any:
        from rich.text import Text

        filled = round(BAR_WIDTH * min(self.done / self._total, 1.0)) if self._total else BAR_WIDTH
        rest = "━" if not ascii_only(self._stream) else "."
        text = Text(no_wrap=True, overflow="crop")
        text.append(encodable(f"{self._label}  ", self._stream), style="bold")
        text.append(encodable("━" * filled, self._stream), style="green")
        text.append(rest * (BAR_WIDTH - filled), style="bright_black")
        room = self._console.width - len(self._label) - BAR_WIDTH - 4
        text.append(encodable(f"  {self.line(room, ended=self._ended)}", self._stream))
        return text

    def _end(self) -> None:
        self._ended = True
        self._format(time.monotonic())
        self._live.stop()


_showing: list[Bar] = []

NAME_WIDTH = 28
"""Columns that the names of a table's rows keep, where they need so many."""
UNBOUNDED = 10_000
"""Columns of a table that nothing bounds."""


@contextmanager
def progress(
    label: str,
    total: int,
    unit: str = "updates",
    start: int = 0,
    *,
    quiet: bool | None = None,
    stream: TextIO | None = None,
) -> Iterator[Bar]:
    """Shows the progress of a loop on standard error; a bar inside another one stays silent.

    Args:
      label: what runs, "SFT".
      total: how many units there are in all.
      unit: what is counted, in the plural.
      start: how many were done before this start; the rate counts the others only.
      quiet: shows nothing; None: as STEPJAX_QUIET sets it.
      stream: the stream to print to, instead of standard error.
    """
    stream = sys.stderr if stream is None else stream
    if quiet is None:
        quiet = os.environ.get("STEPJAX_QUIET", "0") not in ("", "0")
    arguments = (label, total, unit, start)
    bar: Bar
    if quiet or _showing or not speaks():
        bar = Bar(*arguments)
    elif is_terminal(stream):
        bar = _LiveBar(stream, *arguments)
    else:
        bar = _PlainBar(stream, *arguments)
    shown = type(bar) is not Bar
    if shown:
        _showing.append(bar)
    try:
        with listening(bar.phase, bar.say) if shown else nullcontext():
            yield bar
    finally:
        if shown:
            _showing.remove(bar)
        bar._end()


def _room_for_names(columns: Sequence[str], cells: Sequence[Sequence[Any]], width: int | None) -> int:
    """Columns that a table's first column keeps: as many as its names need, `NAME_WIDTH` at most, and as the other
    columns leave."""
    widths = [max(len(name), *(len(row[i].plain) for row in cells)) for i, name in enumerate(columns) if cells]
    room = (width or shutil.get_terminal_size((80, 24)).columns) - sum(size + 3 for size in widths[1:]) - 4
    return max(min(widths[0], NAME_WIDTH, room), 0) if widths else 0


def say(text: str, *, stream: TextIO | None = None) -> None:
    """Prints a line for people on standard output."""
    if speaks():
        stream = sys.stdout if stream is None else stream
        print(encodable(text, stream), file=stream, flush=True)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, stream: TextIO | None = None) -> None:
    """Prints a table for people on standard output, as wide as $COLUMNS says or as the terminal is.

    Where there is neither (a pipe, a file) it is plain text, a line a row, however wide that is. Columns of numbers are
    aligned to the right; None is a dash.
    """
    if not speaks():
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    stream = sys.stdout if stream is None else stream
    terminal = is_terminal(stream)

    def cell(value: Any) -> Text:
        text = "–" if value is None else value if isinstance(value, str) else figure(value)
        return Text(encodable(text, stream), overflow="fold")  # a Text: brackets in it are no markup

    cells = [[cell(value) for value in row] for row in rows]
    plain = box.Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)
    shown = Table(title=cell(title), title_justify="left", box=box.SIMPLE_HEAD if not ascii_only(stream) else plain)
    given = columns_given()
    width = given or (None if terminal else UNBOUNDED)
    if not terminal:
        shown.box, shown.title, shown.header_style = plain, None, ""
    for i, name in enumerate(columns):
        numbers = all(_NUMBER.fullmatch(row[i].plain) for row in cells if row[i].plain)
        least = _room_for_names(columns, cells, width) if i == 0 and not numbers else None
        shown.add_column(cell(name), justify="right" if numbers and cells else "left", min_width=least)
    for row in cells:
        shown.add_row(*row)
    console = Console(file=stream, force_terminal=terminal, width=width, highlight=False)
    with console.capture() as captured:
        console.print(shown)
    heading = [] if terminal else textwrap.wrap(encodable(title, stream), given or UNBOUNDED)
    # Without the padding at the ends of lines, which only makes a log wider.
    lines = [*heading, *(line.rstrip() for line in captured.get().rstrip().splitlines())]
    print("\n".join(lines), file=stream, flush=True)
