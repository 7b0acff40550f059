r"""The text of an answer in one spelling: typographic signs as LaTeX commands or ASCII, no layout, no delimiters."""

import re
from collections.abc import Callable

_SIGNS = {
    **dict.fromkeys("−–—‐‑", "-"),
    **dict.fromkeys("×", r"\times "),
    **dict.fromkeys("·⋅∙", r"\cdot "),
    **dict.fromkeys("’′", "'"),
    **dict.fromkeys("“”", '"'),
    **dict.fromkeys("€£¥₹円元", ""),
    "÷": r"\div ",
    "√": r"\sqrt ",
    "∞": r"\infty ",
    "≤": r"\le ",
    "≥": r"\ge ",
    "≠": r"\ne ",
    "∪": r"\cup ",
    "∖": r"\setminus ",
    "∈": r"\in ",
    "≡": r"\equiv ",
    "∅": r"\emptyset ",
    "±": r"\pm ",
    "°": r"^\circ ",
    "º": r"^\circ ",
    "ℝ": r"\mathbb{R}",
    "½": r"\frac{1}{2}",
    "⅓": r"\frac{1}{3}",
    "⅔": r"\frac{2}{3}",
    "¼": r"\frac{1}{4}",
    "¾": r"\frac{3}{4}",
    "\N{NO-BREAK SPACE}": " ",
    "\N{THIN SPACE}": " ",
    "\N{NARROW NO-BREAK SPACE}": " ",
    "\N{IDEOGRAPHIC SPACE}": " ",
    "⟨": r"\langle ",
    "⟩": r"\rangle ",
    "∠": r"\angle ",
    "、": ",",
    "。": ".",
}
_LETTERS = """
    alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi
    omega
"""
_CODES = [*range(0x3B1, 0x3BF), 0x3C0, 0x3C1, *range(0x3C3, 0x3CA)]  # without omicron and the final sigma
_GREEK = {chr(code): rf"\{name} " for code, name in zip(_CODES, _LETTERS.split(), strict=True)}
_FULL_WIDTH = {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
CURRENCIES = {"$": "dollar", "€": "euro", "£": "pound", "¥": "yen", "円": "yen", "元": "yuan", "₹": "rupee"}
_TABLE = str.maketrans({**_FULL_WIDTH, **_GREEK, **{sign: text for sign, text in _SIGNS.items() if text}})
_POWERS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_NOT_ESCAPED = r"(?<!\\)((?:\\\\)*)"
_REPLACED: list[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]] = [
    (re.compile(r"[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+"), lambda m: "^{" + m[0].translate(_POWERS) + "}"),
    (re.compile(_NOT_ESCAPED + r"\\[!]\s*"), r"\1"),
    (re.compile(_NOT_ESCAPED + r"(?<=[0-9])\\,\s*(?=[0-9])"), r"\1"),
    (re.compile(r"(?<=[0-9])\{,\}(?=[0-9])"), ","),
    (
        re.compile(r"\\(?:left|right|displaystyle|textstyle|limits|[bB]igg?[lr]?|mathrm\{\})(?![a-zA-Z])"),
        "",
    ),
    (re.compile(_NOT_ESCAPED + r"\\(?:[,;: ]|q?quad(?![a-zA-Z])|[()\[\]])"), r"\1 "),
    (re.compile(r"(?<=\S)~"), " "),  # at the start it says "about"
    (re.compile(r"\\[dtc]frac(?![a-zA-Z])"), r"\\frac"),
    (re.compile(r"\\[dt]binom(?![a-zA-Z])"), r"\\binom"),
    (re.compile(r"\\(?:degree|deg)(?![a-zA-Z])"), r"^\\circ"),
    (re.compile(r"\\(?:lvert|rvert|vert|mid)(?![a-zA-Z])"), "|"),
]
_ARGUMENT = r"\s*(\{[^{}]*\}|[0-9a-zA-Z]|\\[a-zA-Z]+)"  # as TeX reads it: a group, a character or a command
_BRACED = [
    re.compile(r"(\\frac(?![a-zA-Z]))" + _ARGUMENT + _ARGUMENT),
    re.compile(r"(\\sqrt(?![a-zA-Z]))" + _ARGUMENT),
    re.compile(r"([\^_])" + _ARGUMENT),
]


def spell(text: str) -> str:
    r"""The text with ASCII signs and plain commands, without layout, outer `$` and a full stop at the end.

    Full-width forms are read as ASCII; digits of other scripts are left as they are.
    """
    text = text.strip()
    if text.startswith("**") and text.endswith("**"):
        text = text.strip("*").strip()
    text = text.translate(_TABLE)
    if r"\begin" not in text:
        text = re.sub(r"\\\\(?=[a-zA-Z%{}])", r"\\", text)  # a response with escaped backslashes; not a matrix's rows
    for pattern, replacement in _REPLACED:
        text = pattern.sub(replacement, text)
    text = _without_delimiters(text).strip()
    if not text.endswith((r"\.", "..")):
        text = text.removesuffix(".").rstrip()
    return " ".join(text.split())


def squeeze(text: str) -> str:
    """A spelled text without spaces, save between two letters or digits, and with single arguments in braces."""
    for pattern in _BRACED:
        text = pattern.sub(
            lambda m: m[1] + "".join(part if part[0] == "{" else f"{{{part}}}" for part in m.groups()[1:]), text
        )
    return re.sub(r"(?<![0-9a-zA-Z]) | (?![0-9a-zA-Z])", "", text)


def _without_delimiters(text: str) -> str:
    """Drops pairs of `$`; a single one is a currency sign."""
    dollars = re.findall(r"(?<!\\)\$", text)
    return re.sub(r"(?<!\\)\$", "", text) if len(dollars) % 2 == 0 else text
