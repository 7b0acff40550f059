r"""Pairs of answers whose truth is known by construction: each kind draws a value, spells it, and spells another one.

A kind yields (given, expected, right). Nothing here reads an answer; values are Python's own numbers, tuples and texts.
"""

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from random import Random

from answers.spelled import another, fraction, spelled

Pair = tuple[str, str, bool]
_WORDS = "stop post spot opts least slate steal tales listen silent east seats dog god saw was north thorn Tom Bob"
WORDS = _WORDS.split()
_NAMES = "ABC PQR VI IV XI IX CD MC HTH THH TTH SW NE RGB DNA"
NAMES = _NAMES.split()
GE = r"\ge"
CHANGES = [
    *(
        "about {}",
        "~{}",
        "{} or more",
        "{} million",
        "{} dozen",
        "{} squared",
        "{} below zero",
        "minus {}",
        ">{}",
        "{}+",
    ),
    *("{} pairs", "{}^2", "{}k", "{} to 100", "{} or 101", "{} 1/2", "{}x", "{} thousandths", "-{}", "{} = 1000"),
]
UNITS = [("cm", "centimeters"), ("kg", "kilograms"), ("hours", "hour"), ("dollars", "dollar"), ("apples", "apple")]


def numbers(r: Random) -> Pair:
    value, right = fraction(r), r.random() < 0.5
    return spelled(r, value), spelled(r, value if right else another(r, value)), right


def percentages(r: Random) -> Pair:
    value, right = fraction(r), r.random() < 0.5
    other = value if right else another(r, value)
    return rf"{spelled(r, value * 100)}\%", r.choice([rf"{spelled(r, other * 100)}\%", spelled(r, other)]), right


def huge_and_tiny(r: Random) -> Pair:
    base, n, right = r.randint(2, 12), r.randint(20, 90), r.random() < 0.5
    m = n if right else n + r.choice([-1, 1])
    small = r.random() < 0.5

    def power(k: int) -> str:
        sign = "-" * small
        return r.choice([f"{base}^{{{sign}{k}}}", rf"\left(\frac{{1}}{{{base}}}\right)^{{{'' if small else '-'}{k}}}"])

    if r.random() < 0.3:
        return rf"\frac{{1}}{{{n}!}}", rf"\frac{{1}}{{{m}\cdot {m - 1}!}}", right
    if r.random() < 0.3:
        one, other = (f"10^{{{n}}}", f"10^{{{n}}}") if right else (f"10^{{{n}}}+1", f"10^{{{n}}}")
        return one, other, right
    return power(n), power(m), right


def scientific(r: Random) -> Pair:
    digits, exponent, right = r.randint(101, 999), r.randint(-40, 40), r.random() < 0.5
    other, shifted = (
        (digits, exponent) if right else r.choice([(digits + 1, exponent), (digits, exponent + r.choice([-1, 1]))])
    )
    given = rf"{digits / 100}{r.choice([' ', ''])}\times 10^{{{exponent}}}"
    return given, rf"{other}\cdot10^{{{shifted - 2}}}", right


def surds(r: Random) -> Pair:
    a, b, right = r.randint(2, 12), r.choice([2, 3, 5, 6, 7, 11]), r.random() < 0.5
    wrong = r.choice([a * a * b + 1, a * a * b - 1, a * b, a * a * a * b])
    inside = a * a * b if right else wrong
    return rf"{a}\sqrt{{{b}}}", rf"\sqrt{{{inside}}}", right or inside == a * a * b


def complexes(r: Random) -> Pair:
    a, b, right = r.randint(1, 20), r.randint(1, 20), r.random() < 0.5
    other = (a, b) if right else r.choice([(a, -b), (a + 1, b), (-a, b), (a, b + 1)])
    return f"{a}+{b}i", f"{other[1]}i{other[0]:+d}", right


def polynomials(r: Random) -> Pair:
    x, (a, b), k = r.choice("xtn"), (r.randint(-9, 9), r.randint(-9, 9)), r.randint(1, 5)
    coefficients = [k, k * (a + b), k * a * b]
    right = r.random() < 0.5
    if not right:
        coefficients[r.randrange(3)] += r.choice([-1, 1, 2])
    return f"{k}({x}{a:+d})({x}{b:+d})", "{}{x}^2{:+d}{x}{:+d}".format(*coefficients, x=x), right


def equations(r: Random) -> Pair:
    a, b, c, k = (r.randint(1, 9) for _ in range(4))
    right = r.random() < 0.5
    other = [a * k, b * k, c * k]
    if not right:
        other[r.randrange(3)] += r.choice([1, -1]) * 10
    power = r.choice(["", "^2"])
    return f"{a}x{power}{b:+d}y={c}", f"{other[0]}x{power}{other[1]:+d}y{-other[2]:+d}=0", right


def without_real_solutions(r: Random) -> Pair:
    a, b = r.randint(1, 30), r.randint(1, 30)
    form = r.choice(
        [r"x^2+{}=0", r"|x|=-{}", r"e^x=-{}", r"\sin x={}.5", r"x^4=-{}", "y'={}y", r"\frac{{dy}}{{dx}}={}x"]
    )
    return form.format(a), form.format(b), a == b


def _collection(r: Random) -> tuple[list[Fraction], list[Fraction], bool]:
    values = list({fraction(r) for _ in range(r.randint(2, 5))})
    other, right = list(values), r.random() < 0.5
    if not right:
        i = r.randrange(len(other))
        fresh = another(r, other[i])
        if (r.random() < 0.5 and len(other) > 2) or fresh in values:
            del other[i]
        else:
            other[i] = fresh
    return values, other, right


def sets(r: Random) -> Pair:
    values, other, right = _collection(r)
    r.shuffle(other)
    one, two = (", ".join(spelled(r, value).replace(",", "") for value in part) for part in (values, other))
    if r.random() < 0.5 and len(other) > 1:
        return rf"\{{{one}\}}", two, right
    return rf"\left\{{{one}\right\}}", rf"\{{{two}\}}", right


def lists(r: Random) -> Pair:
    values, other, right = _collection(r)
    r.shuffle(values)
    if len(other) < 2 or len(values) < 2:
        return numbers(r)
    join = r.choice([r" \text{ or } ", r" \text{ and } ", ", ", " or "])
    one = join.join(r.choice(["x=", "x = "]) + spelled(r, value) for value in values)
    return one, ", ".join(spelled(r, value) for value in other), right


def points(r: Random) -> Pair:
    values = [fraction(r) for _ in range(r.randint(2, 4))]
    other = list(values)
    right = r.random() < 0.5
    if not right:
        i = r.randrange(len(other))
        other[i] = another(r, other[i])
        if r.random() < 0.5 and sorted(values) != values:
            other = sorted(values)
    one, two = (", ".join(spelled(r, value).replace(",", "") for value in part) for part in (values, other))
    return f"({one})", rf"\left({two}\right)", right


Interval = tuple[Fraction | None, bool, Fraction | None, bool]


def _interval(r: Random) -> Interval:
    low, high = sorted([fraction(r), fraction(r) + 130])
    return r.choice(
        [
            (low, r.random() < 0.5, high, r.random() < 0.5),
            (None, False, high, r.random() < 0.5),
            (low, r.random() < 0.5, None, False),
        ]
    )


def _in_brackets(r: Random, value: Interval) -> str:
    low, low_closed, high, high_closed = value
    one = r"-\infty" if low is None else spelled(r, low).replace(",", "")
    two = r.choice([r"\infty", r"+\infty"]) if high is None else spelled(r, high).replace(",", "")
    return f"{'[' if low_closed else '('}{one},{two}{']' if high_closed else ')'}"


def _as_inequality(r: Random, value: Interval) -> str:
    low, low_closed, high, high_closed = value
    below, above = (r.choice([r"\le", r"\leq"]) if closed else "<" for closed in (low_closed, high_closed))
    if low is None and high is not None:
        return f"x {above} {spelled(r, high)}"
    if high is None and low is not None:
        return f"x {r.choice(['>'] if below == '<' else [GE, GE + 'q'])} {spelled(r, low)}"
    assert low is not None and high is not None
    return f"{spelled(r, low)} {below} x {above} {spelled(r, high)}"


def intervals(r: Random) -> Pair:
    value = _interval(r)
    other, right = value, r.random() < 0.5
    if not right:
        low, low_closed, high, high_closed = value
        changed: list[Interval] = []
        if low is not None:
            changed += [(low, not low_closed, high, high_closed), (low - 1, low_closed, high, high_closed)]
        if high is not None:
            changed += [(low, low_closed, high, not high_closed), (low, low_closed, high + 1, high_closed)]
        if low is None or high is None:
            changed.append((high, high_closed, low, low_closed))
        other = r.choice(changed)
    forms: list[Callable[[Random, Interval], str]] = [_in_brackets, _as_inequality]
    return r.choice(forms)(r, value), r.choice(forms)(r, other), right


def unions(r: Random) -> Pair:
    a, b, c, d = sorted(r.sample(range(-50, 50), 4))
    parts, right = [f"({a},{b})", f"({c},{d})"], r.random() < 0.5
    other = (
        parts[::-1]
        if right
        else r.choice([[f"({a},{d})"], [f"({a},{b}]", parts[1]], [parts[0]], [parts[0], f"({c},{d + 1})"]])
    )
    if right and r.random() < 0.3:
        m = Fraction(a + b, 2)
        parts = [f"({a},{spelled(r, m).replace(',', '')}]", f"[{spelled(r, m).replace(',', '')},{b})", parts[1]]
    return r"\cup".join(parts), r" \cup ".join(other), right


def words(r: Random) -> Pair:
    pool = r.choice([WORDS, NAMES])
    one = r.choice(pool)
    letters = list(one)
    r.shuffle(letters)
    other = r.choice([one, r.choice(pool), "".join(letters)])
    if other.casefold() == one.casefold() and other != one:
        other = one
    return r.choice([one, rf"\text{{{one}}}"]), r.choice([other, rf"\text{{{other}}}"]), other == one


def codes(r: Random) -> Pair:
    letter, digit = r.choice("ABCDFGH"), r.randint(1, 9)
    one = f"{letter}{digit}"
    other = r.choice([one, f"{digit}{letter}", f"{letter}{digit + 1}", f"{digit}{letter}{digit}"])
    return one, other, one == other


def units(r: Random) -> Pair:
    value, (unit, long), right = r.randint(1, 500), r.choice(UNITS), r.random() < 0.5
    other = value if right else value + r.choice([1, 10, -1])
    given = rf"{value}\text{{ {unit}}}"
    if r.random() < 0.3:
        foreign = r.choice([u for u, _ in UNITS if u != unit])
        return given, rf"{value}\text{{ {foreign}}}", False
    return given, r.choice([f"{other}", rf"{other}\text{{ {long}}}", rf"{other}\text{{ {unit}}}"]), right


def changed_numbers(r: Random) -> Pair:
    """Words that make another number of it."""
    value = r.randint(2, 99)
    form = r.choice(CHANGES)
    return f"#### {form.format(value)}", str(value), False


def plain_lines(r: Random) -> Pair:
    value, right = r.randint(2, 99999), r.random() < 0.5
    other = value if right else value + r.choice([1, -1, 10, 1000])
    form = r.choice(
        ["{}", "{:,}", "${}", "{}.00", "{} apples", "**{}**", "Answer: {}", "{} dollars", "{} km/h", "x = {}"]
    )
    return f"#### {form.format(value)}", str(other), right


def marks(r: Random) -> Pair:
    value, other = r.randint(2, 99), r.randint(2, 99)
    form = r.choice(
        ["**Answer: {}**", "<answer>{}</answer>", "The answer is {}.", "Final Answer: {}", r"so \boxed{{{}}}"]
    )
    first = r.choice(["", f"Perhaps {other}.\n", rf"First \boxed{{{value}}}, no:\n<answer>{value}</answer>, no:\n"])
    if r"\boxed" in first and "boxed" not in form and "<answer>" not in form:
        first = ""
    return first + form.format(value), str(other), value == other


def matrices(r: Random) -> Pair:
    rows = [[fraction(r) for _ in range(2)] for _ in range(2)]
    other, right = [list(row) for row in rows], r.random() < 0.5
    if not right:
        i, j = r.randrange(2), r.randrange(2)
        other[i][j] = another(r, other[i][j])
    one, two = (r"\\".join("&".join(spelled(r, cell) for cell in row) for row in part) for part in (rows, other))
    return rf"\begin{{pmatrix}}{one}\end{{pmatrix}}", rf"\begin{{bmatrix}}{two}\end{{bmatrix}}", right


def choices(r: Random) -> Pair:
    one, other = r.choice("ABCDE"), r.choice("ABCDE")
    forms = ["{}", "({})", r"\text{{{}}}", r"\text{{({})}}", r"\textbf{{({})}}"]
    return r.choice([*forms, r"\text{{{}. the heavier one}}"]).format(one), r.choice(forms).format(other), one == other


def residues(r: Random) -> Pair:
    a, m, right = r.randint(0, 20), r.randint(2, 30), r.random() < 0.5
    other = (a, m) if right else r.choice([(a + 1, m), (a, m + 1)])
    return rf"x\equiv {a}\pmod{{{m}}}", r"x \equiv {} \pmod {{{}}}".format(*other), right


def trigonometry(r: Random) -> Pair:
    degrees, exact = r.choice(
        [(30, r"\frac12"), (45, r"\frac{\sqrt2}{2}"), (60, r"\frac{\sqrt{3}}{2}"), (90, "1"), (150, "0.5"), (0, "0")]
    )
    other = r.choice([degrees, degrees + 1, degrees - 7])
    return rf"\sin {other}^\circ", exact, math.isclose(math.sin(math.radians(other)), math.sin(math.radians(degrees)))


KINDS: list[Callable[[Random], Pair]] = [
    *(numbers, percentages, huge_and_tiny, scientific, surds, complexes, polynomials, equations),
    *(without_real_solutions, sets, lists, points, intervals, unions, words, codes, units, changed_numbers),
    *(plain_lines, marks, matrices, choices, residues, trigonometry),
]


def pairs(seed: int, count: int) -> Iterator[tuple[str, str, bool, str]]:
    """(response, answer, right, kind); what has no mark of its own is in a box."""
    r = Random(seed)
    for i in range(count):
        kind = KINDS[i % len(KINDS)]
        given, expected, right = kind(r)
        marked = kind in (changed_numbers, plain_lines, marks)
        yield given if marked else rf"So we get $\boxed{{{given}}}$.", expected, right, kind.__name__
