"""What a stream can display, and numbers formatted for people."""

import math
import os
import sys
from typing import Any, TextIO

_ASCII = str.maketrans(
    {"·": "|", "━": "=", "–": "-", "—": "-", "−": "-", "…": "...", "×": "x", "→": "->", "±": "+-"}
    | {"“": '"', "”": '"', "‘": "'", "’": "'", "\u202f": " ", "\u00a0": " "}
)


def figure(value: Any) -> str:
    """A number in about three digits: `0.840`, `18.2`, `1234`, `3.1e-05`; whole numbers in full."""
    if isinstance(value, (str, int)):
        return str(value)
    number = float(value)
    size = abs(number)
    if not math.isfinite(number):
        return str(number)
    if size == 0 or size >= 100:
        return f"{number:.0f}"
    if size < 0.001:
        return f"{number:.1e}"
    return f"{number:.{max(2 - math.floor(math.log10(size)), 0)}f}"


def duration(seconds: float) -> str:
    """Seconds as `0:16` or `1:02:03`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def one_line(text: str, most: int) -> str:
    """Untrusted text in one line of at most `most` characters that a terminal only shows: no control characters, no
    marks that turn the text around."""
    # A replaced character becomes a space, and joined white space can only be shorter: 8 characters in for one out.
    shown = " ".join("".join(c if c.isprintable() else " " for c in text[: 8 * most]).split())
    return shown if len(shown) <= most and len(text) <= 8 * most else f"{shown[: most - 1]}…"


def speaks() -> bool:
    """True on the one process of a run that prints."""
    # Without a distributed run there is one process: that needs neither JAX's backend nor its import.
    jax = sys.modules.get("jax")
    return jax is None or not jax.distributed.is_initialized() or jax.process_index() == 0


def is_terminal(stream: TextIO) -> bool:
    """True where lines can be redrawn: a terminal, not a log or CI."""
    if os.environ.get("TERM", "dumb") in ("", "dumb") or os.environ.get("CI"):
        return False
    return bool(getattr(stream, "isatty", lambda: False)())


def columns_given() -> int | None:
    """The width that $COLUMNS asks for, of at least 20 columns; None: it asks for none."""
    text = os.environ.get("COLUMNS", "").strip()
    return max(int(text), 20) if text.isascii() and text.isdigit() and 0 < len(text) < 6 and int(text) else None


def ascii_only(stream: TextIO) -> bool:
    """True where only ASCII shows well: another encoding than UTF-8, or the C locale."""
    if not (getattr(stream, "encoding", None) or "utf-8").lower().startswith("utf"):
        return True
    names = [os.environ.get(name, "") for name in ("LC_ALL", "LC_CTYPE", "LANG")]
    if names[1] == "C.UTF-8" and names[2] in ("C", "POSIX"):
        names[1] = ""  # Python sets LC_CTYPE so under LANG=C; it says nothing of the terminal
    return next((name for name in names if name), "") in ("C", "POSIX")


def encodable(text: str, stream: TextIO) -> str:
    """The text in characters that the stream can show."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    if ascii_only(stream):
        text = text.translate(_ASCII)
    return text.encode(encoding, errors="replace").decode(encoding)  # lone surrogates fit into no encoding
