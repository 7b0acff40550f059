"""Alarms: what rings, what does not, and that a resumed run knows what it knew."""

import json
import random

import pytest

from stepjax.runs.alarms import WATCHED, Alarms
from stepjax.workdir.metrics import Metrics


def feed(alarms, name, values):
    """The sentences of each round."""
    return [alarms.observe({f"hack/{name}": value}) for value in values]


def rounds_that_ring(alarms, name, values):
    return [i for i, told in enumerate(feed(alarms, name, values)) if told]


@pytest.mark.parametrize("name", WATCHED)
def test_every_monitor_rings_when_it_jumps(name):
    told = feed(Alarms(4.0, 3), name, [0.2] * 3 + [0.9] * 3)
    assert [len(sentences) for sentences in told] == [0, 0, 0, 0, 0, 1]
    assert told[-1][0].startswith(f"{WATCHED[name].words} rose from ") and "last 3" in told[-1][0]


def test_a_sentence_tells_both_means():
    (sentence,) = feed(Alarms(4.0, 2), "repeated", [0.01, 0.02, 0.3, 0.4])[-1]
    assert sentence == "repeated steps rose from 1.5 % (first 2 rounds) to 35.0 % (last 2)"
    (sentence,) = feed(Alarms(4.0, 2), "steps", [4.0, 4.0, 1.0, 1.0])[-1]
    assert sentence == "steps a response fell from 4.00 (first 2 rounds) to 1.00 (last 2)"


def test_a_fall_rings_only_where_both_ways_are_watched():
    down = [0.9] * 3 + [0.2] * 5
    assert [name for name in WATCHED if rounds_that_ring(Alarms(4.0, 3), name, down)] == ["steps", "step_tokens"]


def test_small_changes_and_noise_do_not_ring():
    assert not rounds_that_ring(Alarms(4.0, 5), "repeated", [0.0] * 5 + [0.029] * 50), "below the floor"
    assert rounds_that_ring(Alarms(4.0, 5), "repeated", [0.0] * 5 + [0.031] * 50) == [9]
    noisy = [0.1, 0.3, 0.2, 0.1, 0.3]
    assert not rounds_that_ring(Alarms(4.0, 5), "neutral", noisy + [0.5] * 20), "below four deviations"
    assert rounds_that_ring(Alarms(1.0, 5), "neutral", noisy + [0.5] * 20) == [9]
    rng = random.Random(0)
    for name in WATCHED:
        values = [0.5 + rng.gauss(0, 0.02) for _ in range(500)]
        assert not rounds_that_ring(Alarms(4.0, 5), name, values), name


def test_an_alarm_rings_once_until_it_has_recovered():
    alarms = Alarms(4.0, 2)
    values = [0.0, 0.0, *[0.2] * 5, *[0.02] * 3, *[0.2] * 3, 0.0, 0.0, 0.2, 0.2]
    # It recovers below half of its limit of 0.03, not at 0.02.
    assert rounds_that_ring(alarms, "repeated", values) == [3, 15]
    assert alarms.ringing == {"repeated"}
    feed(alarms, "repeated", [0.0, 0.0])
    assert alarms.ringing == set()


def test_zero_is_off_and_missing_values_are_passed_over():
    assert not rounds_that_ring(Alarms(0.0, 2), "repeated", [0.0, 0.0, 1.0, 1.0, 1.0])
    alarms = Alarms(4.0, 2)
    values = [0.0, None, float("nan"), 0.0, None, 1.0, "x", 1.0]
    assert rounds_that_ring(alarms, "repeated", values) == [7]
    assert alarms.observe({"true/accuracy": 1.0}) == []


def test_a_resumed_run_rings_as_one_that_never_stopped(tmp_path):
    rng = random.Random(1)
    lines = [{f"hack/{name}": 0.1 + 0.05 * (i // 9) * rng.random() for name in WATCHED} for i in range(40)]
    whole = Alarms(2.0, 3)
    expected = [(whole.observe(line), sorted(whole.ringing)) for line in lines]
    assert any(told for told, _ in expected)
    for stop in (1, 4, 17, 33):
        with Metrics(tmp_path / str(stop), "ppo") as metrics:
            (tmp_path / str(stop)).mkdir()
            for i, line in enumerate(lines[: stop + 3]):  # three rounds after the checkpoint are lost
                metrics.write(i + 1, line)
        with open(tmp_path / str(stop) / "metrics.jsonl", "a") as file:
            file.write(json.dumps({"step": 1, "stage": "sft", "hack/repeated": 9.0}) + '\n{"step": 9, "sta')
        with Metrics(tmp_path / str(stop), "ppo") as metrics:
            metrics.resume(stop)
            resumed = Alarms(2.0, 3)
            for logged in metrics.logged():
                resumed.observe(logged)
        assert [(resumed.observe(line), sorted(resumed.ringing)) for line in lines[stop:]] == expected[stop:]
