"""Axes of the report's charts: a range, its ticks, and the map from a value to a position."""

import math
from dataclasses import dataclass

from stepjax.report.text import figure


@dataclass(frozen=True)
class Axis:
    """A range of values laid over `start`..`end` (in the drawing's units).

    Attributes:
      low, high: the range; on a logarithmic axis, of decimal logarithms.
      ticks: (place, words), from low to high.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool
    ticks: tuple[tuple[float, str], ...]

    def place(self, value: float) -> float:
        """Position of a value. A logarithmic axis draws zero (and less) at its lower end."""
        if self.log:
            value = math.log10(value) if value > 0 else self.low
        return _between(min(max(value, self.low), self.high), self)


def linear_axis(
    values: list[float], start: float, end: float, *, unit: str = "", zero: bool = False, whole: bool = False
) -> Axis:
    """An axis over the values, widened to round numbers.

    Args:
      values: what has to fit, at least one.
      start, end: places of the low and the high end.
      unit: "share" writes percentages.
      zero: the axis begins at zero, so that lengths on it may be compared.
      whole: a count (training steps): whole ticks, and the range is not widened.
    """
    low, high = min(values), max(values)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-9):  # constant: make room around it
        room = 0.5 if whole else abs(high) * 0.1 or (0.01 if unit == "share" else 1.0)
        low, high = (0.0 if zero else low - room), high + room
    step = _round_step((high - low) / 4)
    if whole:
        step = max(1.0, step if step != 2.5 else 2.0)
    first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
    if not whole:
        first, last = math.floor(low / step + 1e-6), math.ceil(high / step - 1e-6)
        low, high = first * step, last * step
    axis = Axis(low, high, start, end, False, ())
    ticks = [(_between(i * step, axis), _tick(i * step, step, unit)) for i in range(first, last + 1)]
    return Axis(low, high, start, end, False, tuple(ticks))


def log_axis(values: list[float], start: float, end: float) -> Axis:
    """A logarithmic axis from decade to decade. Values of zero or less are drawn at its lower end."""
    positive = [v for v in values if v > 0]
    low, high = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
    if len(positive) < len(values) or low == high:
        low -= 1
    axis = Axis(low, high, start, end, True, ())
    stride = math.ceil((high - low) / 5)
    ticks = [(_between(e, axis), _power(e)) for e in range(low, high + 1, stride)]
    return Axis(low, high, start, end, True, tuple(ticks))


def _between(value: float, axis: Axis) -> float:
    return axis.start + (value - axis.low) / (axis.high - axis.low) * (axis.end - axis.start)


def _round_step(size: float) -> float:
    """The smallest of 1, 2, 2.5, 5 × 10ⁿ that is at least `size`."""
    power = 10.0 ** math.floor(math.log10(size))
    return next(m for m in (1, 2, 2.5, 5, 10) if m * power >= size * (1 - 1e-9)) * power


def _tick(value: float, step: float, unit: str) -> str:
    if unit == "share":
        value, step = 100 * value, 100 * step
    size = max(abs(value), step)
    if size >= 1e6 or step < 1e-4:
        text = figure(value)
    elif step >= 1000:
        text = f"{value / 1000:g}k" if value else "0"
    else:
        decimals = next(d for d in range(6) if abs(step * 10**d - round(step * 10**d)) < 1e-6)
        text = f"{value:.{decimals}f}"
    text = text.replace("-", "−")
    return text + ("%" if unit == "share" else "")


def _power(exponent: int) -> str:
    if -2 <= exponent <= 3:
        return f"{10.0**exponent:g}"
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
