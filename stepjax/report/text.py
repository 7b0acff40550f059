"""Text and figures of the report: formatted numbers, and untrusted characters made visible.

A model may write anything. Markup is escaped by the template; this module handles what escaping leaves: characters
that show nothing, that turn the text around them (right-to-left overrides) or that no file can hold (lone surrogates).
"""

import math
import re
import unicodedata
from typing import Any

from markupsafe import Markup, escape

# Controls but tab and newline, zero-width and direction marks, line separators, surrogates, tags, noncharacters.
# Joiners (U+200C, U+200D) stay: scripts and emoji need them.
_ODD = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ufffe\uffff\ud800-\udfff\U000e0000-\U000e007f]"
)


def _name(char: str) -> str:
    code = ord(char)
    if code < 0x20:
        return chr(0x2400 + code)  # the control pictures of Unicode: ␀, ␛ …
    return "␡" if code == 0x7F else f"⟨U+{code:04X}⟩"


def visible(value: Any) -> Any:
    """A string with its odd characters spelled out; safe in attributes too. Anything else is returned unchanged."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return _ODD.sub(lambda m: _name(m[0]), value)
    return value


def marked(text: str, limit: int = 4000) -> Markup:
    """Untrusted text as markup: escaped, odd characters spelled out in a frame, cut after `limit` characters."""
    parts, at, shown = [], 0, text[:limit]
    for match in _ODD.finditer(shown):
        title = unicodedata.name(match[0], f"character U+{ord(match[0]):04X}")
        frame = Markup('<span class="odd" title="{}">{}</span>').format(title, _name(match[0]))
        parts += [escape(shown[at : match.start()]), frame]
        at = match.end()
    parts.append(escape(shown[at:]))
    if len(text) > limit:
        parts.append(Markup('<span class="odd">… {} more characters</span>').format(f"{len(text) - limit:,}"))
    return Markup("").join(parts)


def number(value: Any) -> float | None:
    """A finite float, or None. Booleans are not numbers, and beyond 1e100 nothing can be drawn."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) <= 1e100 else None  # the comparison is false for NaN


def figure(value: float | None, unit: str = "") -> str:
    """A number as it is printed: "58.3%" for a share, otherwise three or four significant digits."""
    if value is None:
        return "–"
    if unit == "share":
        return _signed(f"{100 * value:.1f}") + "%"
    size = abs(value)
    if size != 0 and (size < 1e-3 or size >= 1e7):
        mantissa, exponent = f"{value:.1e}".split("e")
        return _signed(f"{mantissa}e{int(exponent)}")
    if size >= 1000:
        return _signed(f"{value:,.0f}")
    digits = 0 if size == 0 else max(0, 2 - math.floor(math.log10(size)))
    text = f"{value:.{min(digits, 4)}f}"
    return _signed(text.rstrip("0").rstrip(".") if "." in text else text)


def change(before: float, after: float, unit: str = "") -> str:
    """A difference with its sign: "+17.4 points" for shares."""
    difference = after - before
    text = f"{abs(100 * difference):.1f}" if unit == "share" else figure(abs(difference))
    if not re.search("[1-9]", text):
        return "no change"
    return ("−" if difference < 0 else "+") + text + (" points" if unit == "share" else "")


def _signed(text: str) -> str:
    """Replaces the hyphen by a minus sign, and "-0.0" by "0.0"."""
    if not re.search("[1-9]", text):
        text = text.lstrip("-")
    return text.replace("-", "−")


def title(stage: str) -> str:
    """The name of a stage, as people write it."""
    return stage.upper() if stage in ("sft", "prm", "ppo", "dpo", "grpo") else stage.replace("_", " ")
