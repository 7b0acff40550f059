"""The report's charts: gaps stay gaps, few points keep the shape, and no input breaks the drawing."""

import math
import re
import statistics
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report.report_fixture import HOSTILE

from stepjax.report.axes import linear_axis, log_axis
from stepjax.report.charts import Chart, Line, draw
from stepjax.report.curves import curves
from stepjax.report.series import MAX_POINTS, downsample, finite, series, smooth

values = st.floats(-1e100, 1e100, allow_subnormal=False)


def drawing(*points, **options):
    """The chart's SVG element; every number in it must be finite."""
    chart = draw(Chart("A title", tuple(Line(f"line {i}", p) for i, p in enumerate(points)), **options))
    assert not re.search(r"\b(nan|inf|None)\b", chart)
    return ElementTree.fromstring(chart)


def texts(figure, kind):
    return [e.text for e in figure.iter("text") if e.get("class", "").split()[0] == kind]


def paths(figure, kind):
    return [e.get("d") for e in figure.iter("path") if e.get("class", "").split()[0] == kind]


def test_a_chart_has_title_axes_unit_and_last_value():
    figure = drawing([(s, s / 10) for s in range(1, 6)], unit="share", x_name="iteration")
    assert figure.find("figcaption/strong").text == "A title"
    assert texts(figure, "tick")[:3] == ["10%", "20%", "30%"] and texts(figure, "last") == ["50.0%"]
    assert texts(figure, "axis") == ["iteration"]
    words = figure.find("svg").get("aria-label")
    assert words == (
        "Line chart. A title. 10.0% at iteration 1, 50.0% at iteration 5, lowest 10.0%, highest 50.0%."
    )  # fmt: skip


def test_gaps_break_the_line_and_a_lone_value_is_a_dot():
    figure = drawing([(1, 1.0), (2, 2.0), (3, None), (4, 5.0), (5, None), (6, 1.0), (7, 2.0)])
    (path,) = paths(figure, "line")
    assert path.count("M") == 2 and path.count("L") == 2
    assert len(list(figure.iter("circle"))) == 2  # the lone value, and the last one's mark


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize(
    "points",
    [[(5, 0.25)], [(1, 0.0), (2, 0.0)], [(1, -3.0), (2, -3.0)], [(1, 1e-300), (2, 1e100)],
     [(0, 1.0), (10**14, 1 + 1e-15)], [(1, 0.0), (2, 1e-6), (3, 0.1)], [(1, -1.0), (2, 2.0)]],
)  # fmt: skip
def test_one_point_constant_zero_and_extreme_series(points, log, zero):
    figure = drawing(points, log=log, zero=zero)
    assert len(texts(figure, "last")) == 1 and texts(figure, "tick")


def test_a_chart_without_values_says_so():
    figure = drawing([(1, None), (2, None)], [])
    assert figure.find("p").text == "No values were recorded." and figure.find("svg") is None


def test_last_values_do_not_cover_one_another():
    figure = drawing(*[[(1, 0.0), (2, v)] for v in (0.0, 0.001, 0.002, 0.5, 1.0)])
    places = sorted(float(e.get("y")) for e in figure.iter("text") if e.get("class", "").startswith("last"))
    assert all(b - a >= 11.9 for a, b in pairwise(places)) and places[-1] <= 196 - 34 + 4


def test_names_in_a_chart_are_escaped():
    figure = ElementTree.fromstring(draw(Chart(HOSTILE, (Line(HOSTILE, [(1, 1.0)]), Line("b", [(1, 2.0)])))))
    assert {e.tag for e in figure.iter()} <= {"figure", "figcaption", "strong", "span", "svg", "path", "text", "circle"}


@settings(deadline=None)
@given(st.lists(values, min_size=1, max_size=5), st.booleans(), st.sampled_from(["", "share"]))
def test_a_linear_axis_holds_its_values(found, zero, unit):
    axis = linear_axis(found, 100.0, 0.0, unit=unit, zero=zero)
    assert all(-1e-6 <= axis.place(v) <= 100 + 1e-6 for v in found) and math.isfinite(axis.low + axis.high)
    assert 2 <= len(axis.ticks) <= 8 and [t for t, _ in axis.ticks] == sorted((t for t, _ in axis.ticks), reverse=True)


@settings(deadline=None)
@given(st.lists(st.floats(1e-300, 1e100), min_size=1, max_size=5), st.booleans())
def test_a_log_axis_holds_its_values_and_draws_zero_at_its_foot(found, with_zero):
    axis = log_axis([*found, *[0.0] * with_zero], 100.0, 0.0)
    assert all(-1e-6 <= axis.place(v) <= 100 + 1e-6 for v in found) and 2 <= len(axis.ticks) <= 7
    assert axis.place(0.0) == 100.0


def test_a_whole_axis_has_whole_ticks():
    assert [words for _, words in linear_axis([1, 4], 0, 10, whole=True).ticks] == ["1", "2", "3", "4"]
    assert [words for _, words in linear_axis([7, 7], 0, 10, whole=True).ticks] == ["7"]


def test_missing_values_make_gaps():
    found = [1.0, 2.0, 2.0, 2.0, None, 3.0, float("nan"), 4.0, True, "x", math.inf]
    records = [{"step": i, "a": value} for i, value in enumerate(found)]
    assert series(records, "a")[3:] == [(3, 2.0), (4, None), (5, 3.0), (6, None), (7, 4.0)]
    assert series(records, "b") == []


def test_a_metric_logged_now_and_then_is_one_line():
    records = [{"step": i} | ({"valid": 0.5} if i % 10 == 0 and i != 50 else {}) for i in range(101)]
    points = series(records, "valid")
    assert [x for x, y in points if y is None] == [59]  # only where one value is missing from its own rhythm
    assert len(finite(points)) == 10


@given(st.lists(st.one_of(st.none(), st.floats(-10, 10)), min_size=1, max_size=3000))
@settings(deadline=None, max_examples=30)
def test_downsampling_keeps_ends_and_extremes(found):
    points = list(enumerate(found))
    few = downsample(points)
    assert len(few) <= MAX_POINTS and few[0] == points[0] and few[-1] == points[-1]
    assert [x for x, _ in few] == sorted({x for x, _ in few}) and set(few) <= set(points)
    if finite(points):
        for extreme in (min, max):
            assert extreme(y for _, y in finite(few)) == extreme(y for _, y in finite(points))


def test_running_means_against_a_plain_loop():
    points = [(i, None if i in (40, 41) else math.sin(i)) for i in range(200)]
    for x, y in smooth(points):
        if y is not None:
            low, high = (0, 39) if x < 40 else (42, 199)
            window = [math.sin(i) for i in range(max(low, x - 5), min(high, x + 5) + 1)]
            assert y == pytest.approx(statistics.fmean(window))
    assert [x for x, y in smooth(points) if y is None] == [40, 41]
    assert smooth(points[:30]) == [] and len(smooth([(i, 1.0) for i in range(10000)])) <= MAX_POINTS + 1


def test_every_metric_is_drawn_once():
    record = {
        "true/accuracy": 0.5,
        "reward/a": 1.0,
        "reward/b": 2.0,
        "prm/x": 0.1,
        "new/one": 1.0,
        "odd": 2.0,
        "text": "no",
    }
    records = [{"step": s, "stage": "ppo"} | record for s in (1, 2)]
    records += [{"step": 1, "stage": "label", "cost": 3.0, "loss": 1.0, "all_null": None, "seconds/api": 2.0}]
    groups = {g.title: [re.search("<strong>(.*?)</strong>", c)[1] for c in g.charts] for g in curves(records)}
    assert groups == {
        "Right answers and rewards": ["Right answers", "Reward: a", "Reward: b"],
        "Seconds a phase": ["label: seconds a phase: api"],
        "Other: PPO · prm": ["prm/x"],
        "Other: PPO · new": ["new/one"],
        "Other: PPO · odd": ["odd"],
        "Other: label · cost": ["cost"],
        "Other: label · loss": ["loss"],
    }


def test_many_streams_are_split_over_charts():
    records = [{"step": s, "stage": "ppo"} | {f"value_loss/{i}": 1.0 * i for i in range(8)} for s in (1, 2)]
    (group,) = curves(records)
    assert [chart.count('class="key ') for chart in group.charts] == [6, 2]


def test_charts_side_by_side_share_their_horizontal_axis():
    records = [{"step": s, "stage": "ppo", "true/accuracy": 0.5} for s in range(100)]
    records += [{"step": 100, "stage": "ppo", "true/accuracy": 0.5, "reward/a": 1.0}]
    group = curves(records)[0]
    ranges = [re.search(r"&#34;x&#34;:\[([-\d.]+,[-\d.]+),", chart)[1] for chart in group.charts]
    assert len(ranges) == 2 and len(set(ranges)) == 1
