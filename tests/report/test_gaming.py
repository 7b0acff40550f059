"""Gaming of the reward: said where it shows, never of a healthy run."""

import random

import pytest
from report.report_fixture import ppo_records

from stepjax.report.page import detect_gaming


def curve(accuracy, reward, n=100, noise=0.02, seed=0, **more):
    """Records whose accuracy and reward follow functions of t in [0, 1], with noise."""
    rng = random.Random(seed)
    return [
        {"step": i, "stage": "ppo", "true/accuracy": accuracy(i / n) + rng.gauss(0, noise),
         "reward/prm": reward(i / n) + rng.gauss(0, noise)} | {k.replace("_", "/"): f(i / n) for k, f in more.items()}
        for i in range(n)
    ]  # fmt: skip


def test_gaming_is_said_where_reward_rises_and_truth_falls():
    (sign,) = detect_gaming(curve(lambda t: 0.6 - 0.2 * t, lambda t: 1 + t, noise=0.0), {})
    assert sign == (
        "The reward “prm” rose from 1.09 to 1.9 a response while right answers fell from 58.1% (iterations 0–19) to "
        "42.1% (80–99)."
    )
    late = detect_gaming(curve(lambda t: 0.4 + t if t < 0.5 else 1.4 - t, lambda t: t), {})
    assert len(late) == 1  # as good at the end as at the start, yet far below what it had reached


def test_a_healthy_run_is_not_accused():
    assert detect_gaming(ppo_records(random.Random(1), 100), {}) == []
    assert detect_gaming(curve(lambda t: 0.4 + 0.4 * t, lambda t: 1 + t), {}) == []  # both rise
    assert detect_gaming(curve(lambda t: 0.6 - 0.2 * t, lambda t: 1 - t), {}) == []  # both fall
    assert detect_gaming(curve(lambda t: 0.6 - 0.02 * t, lambda t: 1 + t), {}) == []  # two points are too few
    assert detect_gaming(curve(lambda t: 0.6 - 0.2 * t, lambda t: 1 + t, n=10), {}) == []  # too short to tell
    falling_kl = [
        r | {"reward/kl": r["reward/prm"], "reward/prm": 1.0} for r in curve(lambda t: 0.6 - t / 4, lambda t: t)
    ]
    assert detect_gaming(falling_kl, {}) == []
    assert detect_gaming([], {}) == [] and detect_gaming([{"step": 1, "stage": "sft"}], {"rows": None}) == []


@pytest.mark.parametrize("n", [15, 60])
def test_noise_is_hardly_ever_accused(n):
    runs = [curve(lambda t: 0.5, lambda t: 1 + t, n=n, noise=0.06, seed=seed) for seed in range(300)]
    assert sum(bool(detect_gaming(run, {})) for run in runs) <= 3


def test_missing_values_do_not_disturb_the_search_for_gaming():
    records = curve(lambda t: 0.6 - 0.2 * t, lambda t: 1 + t)
    records[3]["true/accuracy"], records[50]["reward/prm"] = None, float("nan")
    assert len(detect_gaming(records, {})) == 1


def test_gaming_in_the_evaluation():
    records = [{k: v for k, v in r.items() if k != "true/accuracy"} for r in curve(lambda t: 0, lambda t: 1 + t)]
    before = {"accuracy": 0.6, "accuracy_interval": [0.57, 0.63]}
    assert "fell from 60.0% after SFT to 50.0%" in detect_gaming(
        records, {"rows": {"sft": before, "ppo": {"accuracy": 0.5, "accuracy_interval": [0.47, 0.53]}}}
    )[0]  # fmt: skip
    overlapping = {"rows": {"sft": before, "ppo": {"accuracy": 0.57, "accuracy_interval": [0.54, 0.6]}}}
    assert detect_gaming(records, overlapping) == []


def test_fewer_calculations_that_hold_more_often():
    fewer = {"true_calculation": lambda t: 0.8 - 0.4 * t, "true_holds": lambda t: 0.7 + 0.2 * t}
    signs = detect_gaming(curve(lambda t: 0.5, lambda t: 1, **fewer), {})
    assert len(signs) == 1 and "fewer calculations" in signs[0]
    as_many = fewer | {"true_calculation": lambda t: 0.8 - 0.02 * t}
    assert detect_gaming(curve(lambda t: 0.5, lambda t: 1, **as_many), {}) == []
    rows = {"sft": {"calculation": 0.8, "holds": 0.7}, "ppo": {"calculation": 0.5, "holds": 0.9}}
    assert len(detect_gaming([], {"rows": rows})) == 1
    assert detect_gaming([], {"rows": rows | {"ppo": {"calculation": 0.78, "holds": 0.9}}}) == []
