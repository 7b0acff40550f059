"""Units behind a number: `cm`, `dollars`, `km/h`, `remaining apples`, but not words that make another number of it."""

import re

from stepjax.answers.spelling import CURRENCIES
from stepjax.answers.tokens import Tokens, Unreadable

_MOST_WORDS = 5
# Words of one meaning; the first is the unit's name.
_SAME = """
metre m meter; centimetre cm centimeter; millimetre mm millimeter; kilometre km kilometer; inch in inche; foot ft feet;
yard yd; mile mi; second s sec; minute min; hour h hr; day; week wk; year yr; gram g; kilogram kg; milligram mg;
pound-mass lb; ounce oz; litre l liter; millilitre ml milliliter; degree deg; radian rad; dollar usd buck; cent;
euro eur; kmh kph; mph; per; newton n; joule j; watt w; volt v; hertz hz; percent; unit; square sq
""".replace("\n", " ")
_NAMES = {word: group.split()[0] for group in _SAME.split(";") for word in group.split()}
_MEASURES = {*_NAMES.values(), "cubic", "light", "nautical"} - {"unit"}
SHORT = {"m", "g", "s", "h", "L", "l"}
"""One letter that a plain text may hold for a unit; in mathematics it is a variable."""
ABBREVIATIONS = {word for word in _NAMES if 2 <= len(word) <= 3 and word not in ("in", "day", "min")} | {"min"}
# After a number these make another number of it, a second answer, or a doubt; any other words are taken for its unit.
_CHANGES = """
    mn bn hundred thousand million billion trillion dozen score gross pair couple half halve third quarter fourth
    fifth sixth seventh eighth ninth tenth hundredth thousandth millionth twice double triple times time fold
    squared cubed factorial root power sum difference and or nor to by over plus minus negative positive less more
    fewer greater smaller larger below above under beneath beyond least most about approximately approx roughly
    around almost nearly exactly not no none never if when unless because since but than then so as is are was were
    be equal of from off out into short shy away ago before after until up down in with without only both either
    neither maybe perhaps probably modulo mod base ish odd decade one two three four five six seven eight nine ten
    eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty
    seventy eighty ninety zero grand thou mil bil lakh crore milliard quadrillion eleventh twelfth sixteenth doubled
    tripled quadrupled halved inverse inverted reciprocal remainder choose binary octal hex hexadecimal wrong incorrect
    false unknown
"""
_NO_UNIT = set(_CHANGES.split())
_ARTICLES = {"a", "an", "the"}
_ORDINALS = {"st", "nd", "rd", "th"}


def read_unit(tokens: Tokens) -> tuple[str, ...]:
    """The words of a unit in one spelling and in order of the alphabet.

    Raises:
      Unreadable: where the tokens are no unit, or one that changes the number.
    """
    words: list[str] = []
    for token, last in zip(tokens, (None, *tokens), strict=False):
        if token.kind == "currency":
            words.append(CURRENCIES[token.text])
        elif token.kind in ("letters", "text"):
            words += _words(token.text)
        elif token.text == r"\circ":
            words.append("degree")
        elif token.text == "/":
            words.append(token.text)
        elif token.text in ("2", "3") and last and (last.text in ("^", "{") or not token.spaced):
            words.append("^" + token.text)  # m^2, m2; but `12 remainder 3` says two numbers
        elif token.text not in ("^", "{", "}", "."):
            raise Unreadable("no unit")
    if len(words) == 1 and words[0] in _ORDINALS:
        return ("ordinal",)
    if len(words) > _MOST_WORDS:
        raise Unreadable("a text, not a unit")
    powers = {"^2": "square", "^3": "cubic", "/": "per", "%": "percent"}
    lengths = len([word for word in words if word.isalpha()])
    names = [powers[w] if w in powers else _name(w, lengths == 1) for w in words if w.lower() not in _ARTICLES]
    if {"dollar", "cent"} <= set(names):
        raise Unreadable("dollars or cents?")
    return tuple(sorted(set(names)))


def _words(text: str) -> list[str]:
    words = re.findall(r"[^\W\d_]+|\S", text.replace(r"\$", "$"))
    for word in words:
        if not word.isalpha() and word not in CURRENCIES and word not in ("/", "%", ".", "'", "-"):
            raise Unreadable("no unit")
    return [CURRENCIES.get(word, word) for word in words if word not in (".", "'", "-")]


def _name(word: str, alone: bool) -> str:
    if len(word) == 1 and word in "kKMBxX":
        raise Unreadable(f"{word} changes the number")
    lower = word if len(word) == 1 else word.lower()
    singular = lower[:-1] if len(lower) > 2 and lower.endswith("s") and not lower.endswith("ss") else lower
    if {lower, singular} & _NO_UNIT and not (alone and lower == "in"):
        raise Unreadable(f"{word} changes the number")
    return _NAMES.get(lower, _NAMES.get(singular, singular))


def compatible(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether two units may be the same: one is not written, or says less of the same (`apples`, `red apples`).

    `kg m` is no `kg`: what one of them leaves out must be no measure itself.
    """
    if not one or not other:
        return True
    if (set(one) ^ set(other)) & _MEASURES:
        return False
    return set(one) <= set(other) or set(other) <= set(one)
