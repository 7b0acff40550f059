r"""Answers cut into tokens: numbers, runs of letters, LaTeX commands, texts and signs."""

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

from stepjax.answers.spelling import CURRENCIES

MOST_NESTING = 12
_GROUPED = r"[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]{1,2}(?:,[0-9]{2})+,[0-9]{3}(?![0-9])|[0-9]+(?:_[0-9]{3})+(?![0-9])"
_PLAIN = r"[0-9]+"
_REPEATED = r"\\overline\s*\{([0-9]+)\}|\\dot\s*\{?([0-9])\}?(?:([0-9]*)\\dot\s*\{?([0-9])\}?)?"
_NUMBER = {
    grouped: re.compile(rf"({whole})?(?:\.([0-9]*)(?:{_REPEATED})?)?(?<=[0-9}}])")
    for grouped, whole in ((True, f"{_GROUPED}|{_PLAIN}"), (False, _PLAIN))
}
_WRAPPED = re.compile(
    r"\\(text|textrm|textbf|textit|textsf|textnormal|mbox|hbox|mathrm|rm|mathbf|mathit|mathsf|boldsymbol|bm|emph|"
    r"operatorname)\s*\{([^{}]*)\}"
)
_COMMAND = re.compile(r"\\([a-zA-Z]+|[{}%$|])")
_LETTERS = re.compile(r"[a-zA-Z]+")
_WORD = re.compile(r"[^\W\d_a-zA-Z]+")
_MATHS = ("mathrm", "rm", "mathbf", "mathit", "mathsf", "boldsymbol", "bm", "operatorname")
OPENING = {
    "(": ")",
    "[": "]",
    "{": "}",
    r"\{": r"\}",
    r"\langle": r"\rangle",
    r"\lfloor": r"\rfloor",
    r"\lceil": r"\rceil",
}
CLOSING = set(OPENING.values())


class Unreadable(ValueError):
    """The text is not understood as mathematics; it can only be compared by its spelling."""


class Token(NamedTuple):
    r"""One token.

    Attributes:
      kind: "number", "letters", "command" (`\pi`, `\{`), "text" (of `\text`, or letters that are not ASCII),
        "currency" or "sign".
      text: its spelling; of a text the content.
      spaced: whether white space precedes it.
      value: of a number.
    """

    kind: str
    text: str
    spaced: bool = False
    value: Fraction = Fraction(0)


Tokens = tuple[Token, ...]


def tokenize(text: str) -> Tokens:
    """The tokens of a spelled text.

    Raises:
      Unreadable: for a sign that no token begins with, or more than `MOST_NESTING` open brackets.
    """
    return tuple(_tokens(text, 0))


def _tokens(text: str, nesting: int) -> Iterator[Token]:
    position, depth, lists = 0, 0, 0
    while position < len(text):
        start = position
        while position < len(text) and text[position] == " ":
            position += 1
        spaced = position > start
        if position == len(text):
            return
        if match := _WRAPPED.match(text, position):
            yield from _unwrapped(match, spaced, nesting)
        elif match := _COMMAND.match(text, position):
            name = match[0]
            yield (
                Token("currency", "$", spaced)
                if name == r"\$"
                else Token(
                    "sign" if name in (r"\%", r"\|") else "command", {r"\%": "%", r"\|": "|"}.get(name, name), spaced
                )
            )
        elif match := _number(text, position, grouped=lists == 0):
            yield Token("number", match[0], spaced, _value(match))
        elif match := _LETTERS.match(text, position):
            yield Token("letters", match[0], spaced)
        elif text[position] in CURRENCIES:
            yield Token("currency", text[position], spaced)
        elif match := _WORD.match(text, position):
            yield Token("text", match[0], spaced)
        elif text[position] in "+-*/=<>()[]{}^_,;:!|%'&.?\"":
            yield Token("sign", text[position], spaced)
        else:
            raise Unreadable(f"unexpected {text[position]!r}")
        found = match[0] if match else text[position]
        depth += (found in OPENING) - (found in CLOSING)
        lists += (found in ("(", "[", r"\{")) - (found in (")", "]", r"\}"))
        if depth > MOST_NESTING:
            raise Unreadable(f"more than {MOST_NESTING} open brackets")
        position += len(found)


def _number(text: str, position: int, *, grouped: bool) -> re.Match[str] | None:
    """A number; in brackets, where commas separate, none of it is a separator of thousands."""
    match = _NUMBER[grouped].match(text, position)
    return match if match and match[0] and (match[1] or match[2] or match[3]) else None


def _value(match: re.Match[str]) -> Fraction:
    whole, decimals, line, dot, middle, last = match.groups()
    decimals, repeated = decimals or "", line or "".join(part or "" for part in (dot, middle, last))
    value = Fraction(int(re.sub("[,_]", "", whole or "0")))
    value += Fraction(int(decimals or "0"), 10 ** len(decimals))
    if repeated:
        value += Fraction(int(repeated), (10 ** len(repeated) - 1) * 10 ** len(decimals))
    return value


def _unwrapped(match: re.Match[str], spaced: bool, nesting: int) -> Iterator[Token]:
    r"""`\text{…}` as a text; as mathematics where it holds a number, and `\mathbf{x}` or `\mathrm{e}` as the letter."""
    command, content = match[1], " ".join(match[2].split())
    if not content:
        return
    if command == "operatorname" or (command in _MATHS and len(content) == 1 and content.isalpha()):
        yield Token("letters", content, spaced)
        return
    if not re.search(r"[a-zA-Z]|[^\W\d_]", content.replace(r"\$", "")):  # a number, or signs
        if nesting >= MOST_NESTING:
            raise Unreadable("texts in texts")
        for token in _tokens(content, nesting + 1):
            yield token._replace(spaced=True) if spaced else token
            spaced = False
        return
    yield Token("text", content, spaced or match[2][:1] == " ")


def matching(tokens: Tokens, start: int) -> int:
    """Index of the bracket that closes the one at `start`: `)` or `]` for either of `(` and `[`, as in intervals.

    Raises:
      Unreadable: where none does, or one of another kind comes first.
    """
    open_: list[str] = []
    for i in range(start, len(tokens)):
        text = tokens[i].text if tokens[i].kind in ("sign", "command") else ""
        if text in OPENING:
            open_.append(text)
        elif text in CLOSING:
            last = open_.pop() if open_ else ""
            if OPENING.get(last) != text and not (last in ("(", "[") and text in (")", "]")):
                raise Unreadable(f"unexpected {text}")
            if not open_:
                return i
    raise Unreadable("an unclosed bracket")


def split(tokens: Tokens, separators: set[str]) -> tuple[list[Tokens], list[str]]:
    """The parts between separators outside of brackets (signs, commands, or words as texts or letters), and those."""
    parts: list[Tokens] = []
    found: list[str] = []
    start = i = 0
    while i < len(tokens):
        token = tokens[i]
        if token.kind in ("sign", "command") and token.text in OPENING:
            i = matching(tokens, i)
        elif token.kind != "number" and token.text.lower() in separators:
            parts.append(tokens[start:i])
            found.append(token.text.lower())
            start = i + 1
        i += 1
    return [*parts, tokens[start:]], found
