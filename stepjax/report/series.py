"""One metric over a run: its points, its gaps, and fewer points where a chart could not show them anyway."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from statistics import median_low
from typing import Any

from stepjax.report.text import number

Points = list[tuple[float, float | None]]  # (step, value); a value of None breaks the line

MAX_POINTS = 400


def series(records: Sequence[dict[str, Any]], key: str) -> Points:
    """The values of `key` over the records of one stage. Missing values (absent, null, NaN) make a gap.

    A metric logged every tenth step is not a row of gaps: the line is broken only where clearly more records in a row
    lack the value than is usual for this metric.
    """
    at = [(i, value) for i, r in enumerate(records) if (value := number(r.get(key))) is not None]
    missing = [b - a - 1 for (a, _), (b, _) in pairwise(at)]
    usual = median_low(missing) if missing else 0
    points: Points = []
    for (i, value), lacking in zip(at, [0, *missing], strict=False):
        if lacking > 1.5 * usual + 0.5:
            points.append((records[i - 1]["step"], None))
        points.append((records[i]["step"], value))
    return points


def downsample(points: Points, limit: int = MAX_POINTS) -> Points:
    """At most `limit` points that keep the first and last value, gaps, and each stretch's lowest and highest value."""
    if len(points) <= limit:
        return points
    stretches = (limit - 4) // 3
    known = [i for i, (_, y) in enumerate(points) if y is not None]
    keep = {0, len(points) - 1, *known[:1], *known[-1:]}
    for s in range(stretches):
        stretch = range(s * len(points) // stretches, (s + 1) * len(points) // stretches)
        values = {i: value for i in stretch if (value := points[i][1]) is not None}
        keep.update([i for i in stretch if i not in values][:1])
        if values:
            keep |= {min(values, key=values.__getitem__), max(values, key=values.__getitem__)}
    return [points[i] for i in sorted(keep)]


def smooth(points: Points) -> Points:
    """Running means over a twentieth of the points (a window about each, narrower at the ends), gaps kept.

    Empty where there are too few points (under 60) for a mean to show more than the values do.
    """
    if len(finite(points)) < 60:
        return []
    reach, start = max(2, len(points) // 40), 0
    means: Points = []
    for end in [i for i, (_, y) in enumerate(points) if y is None] + [len(points)]:
        run = finite(points[start:end])
        sums = list(accumulate((y for _, y in run), initial=0.0))
        for i, (x, _) in enumerate(run):
            first, last = max(0, i - reach), min(len(run) - 1, i + reach)
            means.append((x, (sums[last + 1] - sums[first]) / (last + 1 - first)))
        means += points[end : end + 1]
        start = end + 1
    stride = -(-len(means) // MAX_POINTS)
    return [p for i, p in enumerate(means) if i % stride == 0 or p[1] is None or i == len(means) - 1]


def finite(points: Points) -> list[tuple[float, float]]:
    """The points that have a value."""
    return [(x, y) for x, y in points if y is not None]
