"""The responses of the training that the report shows, and how their steps are told and coloured."""

import pytest
from report.report_fixture import write_outcome_only, write_workdir

from stepjax.report.page import write_report
from stepjax.report.read import read_run
from stepjax.report.samples import legend, logged_filters, pick


def test_every_iteration_that_logged_responses_is_shown(tmp_path):
    iterations = pick(read_run(write_workdir(tmp_path / "run", iterations=120)).samples)
    labels = ["SFT update 600", *(f"PPO iteration {i}" for i in (1, 30, 60, 90, 120))]
    assert [i.label for i in iterations] == labels
    assert [len(i.cards) for i in iterations] == [8] * 6
    assert len({tuple(card.problem for card in i.cards[:7]) for i in iterations}) == 1
    found = {name: count for name, _, (count,) in logged_filters(iterations)}
    cards = [card for i in iterations for card in i.cards]
    assert found["wrong"] == sum(card.correct is False for card in cards) > 5
    assert found["disagrees"] > 5 and found["alarm"] > 5


def test_cards_are_dealt_until_none_is_left():
    samples = [{"stage": "sft", "step": 1, "problem": "a"}]
    samples += [{"stage": "ppo", "step": s, "problem": p} for s in (1, 2) for p in range(60)]
    assert [len(i.cards) for i in pick(samples)] == [1, 8, 8], "at most eight of an iteration"
    assert [len(i.cards) for i in pick(samples, limit=10)] == [1, 5, 4]
    many = pick([{"stage": "ppo", "step": s, "problem": p} for s in range(1, 41) for p in (0, 1)], limit=5)
    assert [(i.step, len(i.cards)) for i in many] == [(1, 1), (11, 1), (21, 1), (30, 1), (40, 1)], "evenly spaced"
    assert pick([]) == []


def test_a_reward_at_the_end_is_told_once_and_no_column_is_empty(tmp_path):
    folder = write_outcome_only(tmp_path / "run")
    card = pick(read_run(folder).samples)[0].cards[0]
    assert [(name, bar.text) for name, bar in card.streams] == [("outcome", "+1")]
    assert [[(name, reward, advantage.text) for name, reward, advantage in step.streams] for step in card.steps] == [
        [("outcome", None, "+0.5")]
    ] * 3
    assert legend(pick(read_run(folder).samples)) == "", "no colour without ratings"
    text = write_report(folder).read_text(encoding="utf-8")
    assert ">reward</th>" not in text and ">advantage</th>" in text and "reward outcome +1" in text
    assert "not rated" not in text and "P(right)" not in text


@pytest.mark.parametrize(
    ("step", "tone", "mark", "source"),
    [
        ({"prm": [0.9, 0.1, 0.0], "rating": 1}, -4, "bad", "model"),
        ({"prm": [0.1, 0.8, 0.1], "rating": 1}, 0, "neutral", "model"),
        ({"prm": None, "rating": 1, "rewards": {"x": -1.0}}, 4, "good", "exact"),
        ({"rewards": {"x": -1.0, "y": 1e-3}}, -4, "bad", "reward"),
        ({"rewards": {}}, None, "", ""),
    ],
)
def test_a_step_is_coloured_by_the_best_that_is_known(step, tone, mark, source):
    found = pick([{"stage": "ppo", "step": 1, "steps": [{"text": "a"} | step]}])[0].cards[0].steps[0]
    assert (found.tone, found.mark, found.source) == (tone, mark, source)
