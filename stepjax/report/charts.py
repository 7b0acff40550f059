"""Line charts of the report, drawn as SVG: no library, no network, legible without a script.

Every chart is a figure with a title in plain words, axes with ticks and units, the last value of each line at its end,
and a description in words. Lines differ in dash as well as colour. Long curves are drawn twice: their values as a thin
line, running means over it. The page's script reads the values from `data-lines` and adds a read-out at the pointer.
"""

import json
from dataclasses import dataclass

from markupsafe import Markup

from stepjax.report.axes import Axis, linear_axis, log_axis
from stepjax.report.series import Points, downsample, finite, smooth
from stepjax.report.text import figure, visible

HEIGHT, TOP, BOTTOM = 196, 12, 34
LINE_TONES = ("s1", "s2", "s3", "s4", "s5", "s6")  # classes of the style sheet: a colour and a dash each


@dataclass(frozen=True)
class Line:
    """One line. `tone` is its class in the style sheet; without one, its place among the chart's lines decides.

    `spread` has intervals to draw: (x, low, high).
    """

    name: str
    points: Points
    tone: str = ""
    spread: tuple[tuple[int, float, float], ...] = ()


@dataclass(frozen=True)
class _Curve:
    """A line as it is drawn: few enough points, those of them that have a value, and running means."""

    name: str
    tone: str
    points: Points
    known: list[tuple[float, float]]
    means: Points
    spread: tuple[tuple[int, float, float], ...]


@dataclass(frozen=True)
class Chart:
    """What a chart shows.

    Attributes:
      title: what is measured, in plain words.
      lines: one or more (at most six have tones of their own).
      unit: "share" (drawn in percent), or the word for the vertical axis.
      hint: a sentence for the reader under the title.
      x_name: what the horizontal axis counts.
      x_range: its ends, where adjacent charts must share them.
      x_scale: count (whole numbers), value (any), or log.
      log, zero: a logarithmic vertical axis; one that starts at zero.
      keyed: its line is named, too, where it is the only one.
      width: of the drawing, in its own units; text keeps its size while the drawing scales to the page.
    """

    title: str
    lines: tuple[Line, ...]
    unit: str = ""
    hint: str = ""
    x_name: str = "update"
    x_range: tuple[int, int] | None = None
    x_scale: str = "count"
    log: bool = False
    zero: bool = False
    keyed: bool = False
    width: int = 360


def draw(chart: Chart) -> Markup:
    """The chart as an HTML figure."""
    lines = [
        _Curve(
            visible(line.name),
            line.tone or LINE_TONES[i % len(LINE_TONES)],
            shown,
            finite(shown),
            smooth(line.points),
            line.spread,
        )
        for i, line in enumerate(chart.lines)
        if finite(shown := downsample(line.points))
    ]
    unit = f" ({chart.unit})" if chart.unit not in ("", "share") else ""
    parts = [Markup("<figcaption><strong>{}</strong>{}").format(visible(chart.title), unit)]
    if len(lines) > 1 or chart.keyed:
        key = Markup(
            '<span class="key {}"><svg viewBox="0 0 22 6" aria-hidden="true"><path d="M0 3H22"/></svg>{}</span>'
        )
        keys = Markup("").join(key.format(line.tone, line.name) for line in lines)
        parts.append(Markup('<span class="keys">{}</span>').format(keys))
    if chart.hint:
        parts.append(Markup('<span class="hint">{}</span>').format(visible(chart.hint)))
    parts.append(Markup("</figcaption>"))
    parts.append(_svg(chart, lines) if lines else Markup('<p class="none">No values were recorded.</p>'))
    return Markup('<figure class="chart">{}</figure>').format(Markup("").join(parts))


def _svg(chart: Chart, lines: list[_Curve]) -> Markup:
    points = [point for line in lines for point in line.known]
    ys = [y for _, y in points] + [end for line in lines for _, *ends in line.spread for end in ends]
    bottom = HEIGHT - BOTTOM
    if chart.log and max(ys) > 0:
        y_axis = log_axis(ys, bottom, TOP)
    else:
        y_axis = linear_axis(ys, bottom, TOP, unit=chart.unit, zero=chart.zero)
    # Room for the words of the ticks on the left and for the last values on the right, at 11 units a letter's height.
    left = 12 + 6.5 * max(len(words) for _, words in y_axis.ticks)
    right = chart.width - 12 - 7 * max(len(figure(line.known[-1][1], chart.unit)) for line in lines)
    x_axis = _x_axis(chart, [float(x) for x in chart.x_range or (x for x, _ in points)], left, right)
    body = [_frame(chart, x_axis, y_axis)]
    data = []
    for line in lines:
        body.append(_path(line.points, f"{'raw' if line.means else 'line'} {line.tone}", x_axis, y_axis))
        body.append(_path(line.means, f"line {line.tone}", x_axis, y_axis))
        body.append(_spread(line, x_axis, y_axis))
        values = {"x": [_shown(x) for x, _ in line.known], "y": [float(f"{y:.5g}") for _, y in line.known]}
        data.append({"name": line.name, "tone": line.tone} | values)
    body += _end_labels(chart, lines, x_axis, y_axis)
    x_scale = [round(v, 4) for v in (x_axis.low, x_axis.high, x_axis.start, x_axis.end)]
    words = {"unit": chart.unit, "xName": chart.x_name, "x": x_scale, "xLog": x_axis.log, "lines": data}
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}" data-lines="{}">{}</svg>').format(
        chart.width, HEIGHT, _words(chart, lines), json.dumps(words, separators=(",", ":")), Markup("").join(body)
    )


def _x_axis(chart: Chart, values: list[float], left: float, right: float) -> Axis:
    if chart.x_scale == "log" and max(values) > 0:
        return log_axis(values, left, right)
    return linear_axis(values, left, right, whole=chart.x_scale == "count")


def _frame(chart: Chart, x_axis: Axis, y_axis: Axis) -> Markup:
    """Grid lines, ticks, and the name of what the horizontal axis counts."""
    left, right, bottom = round(x_axis.start, 1), round(x_axis.end, 1), y_axis.start
    text = Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>')
    rule = Markup('<path class="{}" d="M{} {:.1f}H{}"/>')
    parts = []
    for y, words in y_axis.ticks:
        parts += [rule.format("grid", left, y, right), text.format("tick", left - 6, y + 3.5, "end", words)]
    if not y_axis.log and y_axis.low < 0 < y_axis.high:
        parts.append(rule.format("zero", left, y_axis.place(0.0), right))
    for x, words in x_axis.ticks:
        parts.append(Markup('<path class="notch" d="M{:.1f} {}v4"/>').format(x, bottom))
        parts.append(text.format("tick", x, bottom + 15, "middle", words))
    parts.append(rule.format("base", left, float(bottom), right))
    parts.append(text.format("axis", (left + right) / 2, HEIGHT - 5, "middle", chart.x_name))
    return Markup("").join(parts)


def _path(points: Points, tone: str, x_axis: Axis, y_axis: Axis) -> Markup:
    """A line, broken at its gaps. A value between two gaps has no line: it is drawn as a dot."""
    runs: list[list[str]] = [[]]
    for x, y in points:
        if y is None:
            runs.append([])
        else:
            runs[-1].append(f"{x_axis.place(x):.1f} {y_axis.place(y):.1f}")
    path = "".join("M" + "L".join(run) for run in runs if len(run) > 1)
    dots = [run[0].split() for run in runs if len(run) == 1]
    parts = [Markup('<path class="{}" d="{}"/>').format(tone, path)] if path else []
    parts += [Markup('<circle class="dot {}" cx="{}" cy="{}" r="1.6"/>').format(tone, x, y) for x, y in dots]
    return Markup("").join(parts)


def _spread(line: _Curve, x_axis: Axis, y_axis: Axis) -> Markup:
    """The intervals as bars with feet."""
    ends = [(x_axis.place(x), y_axis.place(low), y_axis.place(high)) for x, low, high in line.spread]
    path = "".join(f"M{x - 3:.1f} {low:.1f}h6m-3 0V{high:.1f}m-3 0h6" for x, low, high in ends)
    return Markup('<path class="raw {}" d="{}"/>').format(line.tone, path) if path else Markup("")


def _end_labels(chart: Chart, lines: list[_Curve], x_axis: Axis, y_axis: Axis) -> list[Markup]:
    """The last value of each line at its end, pushed apart where they would cover one another."""
    ends = sorted(((*line.known[-1], line.tone) for line in lines), key=lambda end: -end[1])
    places: list[float] = []
    for _, y, _ in ends:
        places.append(max(y_axis.place(y), places[-1] + 12 if places else TOP))
    for i in range(len(places)):  # those pushed below the foot of the chart come back up, with all above them
        places[i] = min(places[i], y_axis.start - 12 * (len(places) - 1 - i))
    dot = Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="2.5"/>')
    text = Markup('<text class="last {}" x="{:.1f}" y="{:.1f}">{}</text>')
    labels = []
    for (x, y, tone), place in zip(ends, places, strict=True):
        labels.append(dot.format(tone, x_axis.place(x), y_axis.place(y)))
        labels.append(text.format(tone, x_axis.end + 6, place + 3.5, figure(y, chart.unit)))
    return labels


def _shown(x: float) -> float:
    """Whole numbers as they are, others to four digits."""
    return int(x) if x == int(x) else float(f"{x:.4g}")


def _words(chart: Chart, lines: list[_Curve]) -> str:
    """The chart in words, for screen readers."""
    parts = []
    for line in lines:
        (x0, y0), (x1, y1) = line.known[0], line.known[-1]
        low, high = min(y for _, y in line.known), max(y for _, y in line.known)
        name = f"{line.name}: " if len(lines) > 1 else ""
        parts.append(
            f"{name}{figure(y0, chart.unit)} at {chart.x_name} {_shown(x0)}, "
            f"{figure(y1, chart.unit)} at {chart.x_name} {_shown(x1)}, "
            f"lowest {figure(low, chart.unit)}, highest {figure(high, chart.unit)}"
        )
    return f"Line chart. {visible(chart.title)}. " + "; ".join(parts) + "."
