"""Numbers drawn and spelled in many ways."""

from fractions import Fraction
from random import Random


def fraction(r: Random, most: int = 60) -> Fraction:
    return Fraction(r.randint(-most, most) or 1, r.choice([1, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 25, 99]))


def another(r: Random, value: Fraction) -> Fraction:
    """A number that is easily taken for `value`, but never it, its hundredfold or its hundredth."""
    near = [value + 1, value - 1, -value, value * 10, value / 10, value + Fraction(1, 10**12), value * 2]
    near += [1 / value, Fraction(value.denominator, abs(value.numerator)) * 3] if value else []
    return r.choice([other for other in near if other not in (value, value * 100, value / 100)])


def spelled(r: Random, value: Fraction) -> str:
    """A number in one of its spellings."""
    sign, top, bottom = "-" * (value < 0), abs(value.numerator), value.denominator
    k = r.randint(2, 5)
    forms = [
        rf"{sign}\frac{{{top}}}{{{bottom}}}",
        rf"{sign}\dfrac{{{top * k}}}{{{bottom * k}}}",
        f"{sign}{top}/{bottom}",
    ]
    forms.append(rf"\frac{{{sign}{top}}}{{{bottom}}}")
    whole, rest = divmod(top, bottom)
    if whole and rest:
        forms += [rf"{sign}{whole}\frac{{{rest}}}{{{bottom}}}", f"{sign}{whole} {rest}/{bottom}"]
    if bottom == 1:
        forms += [
            f"{sign}{top}",
            f"{sign}{top:,}",
            f"{sign}{top}.0",
            rf"{sign}\text{{{top}}}",
            f"{sign}{top:,}".replace(",", "{,}"),
        ]
    return r.choice([*forms, *decimals(sign, top, bottom)])


def decimals(sign: str, top: int, bottom: int) -> list[str]:
    """The decimal fraction of a number, where it ends or repeats early."""
    digits, seen, rest = "", {}, top % bottom
    while rest and rest not in seen and len(digits) < 20:
        seen[rest] = len(digits)
        digits += str(rest * 10 // bottom)
        rest = rest * 10 % bottom
    if rest and rest in seen:
        start = seen[rest]
        return [rf"{sign}{top // bottom}.{digits[:start]}\overline{{{digits[start:]}}}"]
    return [] if rest or not digits else [f"{sign}{top // bottom}.{digits}"]
