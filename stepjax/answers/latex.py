"""LaTeX answers brought to one spelling, so that most equal ones are equal as text, and read as exact numbers."""

import re
from fractions import Fraction

from stepjax.answers.arithmetic import NUMBER

_ARGUMENT = r"\s*(\{[^{}]*\}|[0-9a-zA-Z]|\\[a-zA-Z]+)"  # as TeX reads it: a group, a character or a command
_UNIT = re.compile(r"(.*[0-9})\]])\s*\\(?:text|mbox|mathrm|textrm)\s*\{([^{}]*)\}\s*(?:\^\{?[23]\}?)?")
_WRAPPED = re.compile(r"\\(?:text|mbox|mathrm|textrm|textbf|textit|mathbf|mathit|emph)\s*\{([^{}]*)\}")
# Not after a backslash: `\\` separates the rows of a matrix.
_REPLACED = [
    (re.compile(r"\\(?:left|right|displaystyle)(?![a-zA-Z])|(?<!\\)\\(?:[!,]\s*|[()\[\]])"), ""),
    (re.compile(r"(?<!\\)\\[;: ]|\\q?quad(?![a-zA-Z])|~"), " "),
    (re.compile(r"\\[dtc]frac(?![a-zA-Z])"), r"\\frac"),
    (re.compile(r"\^\s*\{?\s*\\circ\s*\}?|\\degree(?![a-zA-Z])|°"), ""),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\?\$|[€£]"), ""),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"[−–]"), "-"),
]
_SPELLED = [
    (re.compile(r"\\frac(?![a-zA-Z])" + _ARGUMENT + _ARGUMENT), lambda m: rf"\frac{_braced(m[1])}{_braced(m[2])}"),
    (re.compile(r"\\sqrt(?![a-zA-Z])" + _ARGUMENT), lambda m: rf"\sqrt{_braced(m[1])}"),
    (re.compile(r"([\^_])" + _ARGUMENT), lambda m: m[1] + _braced(m[2])),
]
_EXACT = re.compile(
    rf"([-+]?)\s*(?:(?:({NUMBER})\s*)?\\frac\{{\s*(-?(?:{NUMBER}))\s*\}}\{{\s*(-?(?:{NUMBER}))\s*\}}"
    rf"|(?:({NUMBER})\s+)?({NUMBER})\s*/\s*(-?(?:{NUMBER}))|({NUMBER}))\s*%?"
)
_UNIT_WORDS = re.compile(r"(.*[0-9}])\s+((?!sqrt)[a-zA-Z]{4,}[a-zA-Z²³/ .-]{0,40})", re.DOTALL)
_ANY_UNIT = re.compile(r"(.*[0-9}])((?:\s+[a-zA-Z]|[a-zA-Z]{2})[a-zA-Z²³/ .-]{0,40})", re.DOTALL)
# After a number these make another number of it, or a second answer; any other words are taken for its unit.
_NO_UNIT = re.compile(
    r"(?<![a-zA-Z])(?:[kKMBx]|mn|bn|(?i:hundred|thousand|(?:m|b|tr)illion|dozens?|scores?|hal[fv]e?s?|thirds?|quarters?"
    r"|and|or|to|by|times|over|plus|minus|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty))"
    r"(?![a-zA-Z])"
)


def clean(text: str) -> str:
    """The text without layout, currency, degree signs and trailing units; fractions, roots and powers in braces."""
    text = text.strip()
    if text.startswith("**") and text.endswith("**"):
        text = text.strip("*")
    for pattern, replacement in _REPLACED:
        text = pattern.sub(replacement, text)
    text = text.strip().removesuffix(".").strip()
    unit = _UNIT.fullmatch(text)
    if unit and not _NO_UNIT.search(unit[2]) and not re.search(r"[0-9,]", unit[2]):
        text = unit[1]
    text = _WRAPPED.sub(r"\1", text)
    for pattern, spell in _SPELLED:
        text = pattern.sub(spell, text)
    return " ".join(text.split())


def exact_number(text: str, *, units: bool = False) -> Fraction | None:
    """The value of a cleaned text that is a number, a fraction or a mixed number; else None.

    Words after it are passed over (`30 degrees`), unless they belong to the number (`5 million`) or name a second one
    (`5 or more`). So are abbreviations with `units` (`5 m`, `5cm`), which in mathematics would be variables.
    """
    match = _EXACT.fullmatch(text)
    if match is None:
        worded = _UNIT_WORDS.fullmatch(text) or (_ANY_UNIT.fullmatch(text) if units else None)
        if worded and not _NO_UNIT.search(worded[2]):
            match = _EXACT.fullmatch(worded[1])
    if match is None:
        return None
    sign, whole, top, bottom, whole2, top2, bottom2, plain = (part and part.replace(",", "") for part in match.groups())
    if plain:
        value = Fraction(plain)
    else:
        divisor = Fraction(bottom or bottom2)
        if not divisor:
            return None
        value = Fraction(whole or whole2 or 0) + Fraction(top or top2) / divisor
    return -value if sign == "-" else value


def _braced(argument: str) -> str:
    return argument if argument.startswith("{") else "{" + argument + "}"
