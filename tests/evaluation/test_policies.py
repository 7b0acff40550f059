"""Intervals of shares against published ones, and the table for people."""

import pytest

from stepjax.evaluation.policies import show, wilson


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [  # [Newcombe 1998, table I, method 3], then the closed form z² / (n + z²) for none and all
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (1, 29, 0.0061, 0.1718),
        (0, 20, 0.0, 0.1611),
        (29, 29, 1 - 3.8416 / 32.8416, 1.0),
        (0, 1, 0.0, 3.8416 / 4.8416),
    ],
)
def test_wilson_intervals(right, n, low, high):
    assert wilson(right / n, n) == pytest.approx((low, high), abs=6e-5)


def test_no_trial_says_nothing():
    assert wilson(0.0, 0) == (0.0, 1.0)


def test_the_interval_stays_inside_and_shrinks():
    widths = []
    for n in (1, 10, 100, 1000):
        low, high = wilson(1.0, n)
        assert 0.0 <= low < high <= 1.0
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)


def test_the_table_shows_what_is_known(monkeypatch):
    tables = []
    monkeypatch.setattr("stepjax.evaluation.policies.table", lambda *args: tables.append(args))
    figures = {"accuracy": 0.25, "steps": 4.25, "trace_error": 0.5, "truncated": 0.0}
    found = {
        "problems": 64,
        "split": "test",
        "temperature": 1.0,
        "rows": {"sft": figures, "ppo": {"accuracy": 0.75, "steps": 3.0, "truncated": 0.125}},
        "prm": {"sft": {"macro_f1": 0.8125}},
    }
    show(found)
    ((title, columns, lines),) = tables
    assert title == "64 test problems, temperature 1"
    assert columns == ["", "after SFT", "after step-level PPO"]
    assert lines == [
        ["Right answers", "25.0 %", "75.0 %"],
        ["Right answers with a wrong step (trace error)", "50.0 %", "–"],
        ["Steps a response", "4.2", "3.0"],
        ["Responses cut off at the limit", "0.0 %", "12.5 %"],
        ["PRM macro-F1 on its steps (sft)", "0.812", ""],
    ], "rows that no policy has are left out"
